"""almanac report: one self-contained page for a run, or for several side by side.

The page loads nothing and runs no script: styles, curves (SVG) and samples are in the file.
"""

import argparse
import base64
import json
import re
import shlex
from collections.abc import Sequence, Set
from html import escape
from pathlib import Path
from typing import Any

from research.host.errors import UserError
from tools import curves as draw
from tools import rundir
from tools.rundir import ABSENT, RunDir

LOWER = frozenset("loss nll perplexity ppl error errors mse rmse mae entropy bits wer cer fid ece kl".split())
HIGHER = frozenset("accuracy acc bleu f1 em auc recall precision ndcg hit iou dice map ap elbo score r2".split())
SAMPLES, CHARACTERS = 8, 6_000  # shown of each run; of each text


def write(dirs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write report.html and curves.png of these runs; returns the page's path.

    They go to `out`; without it into the run's own directory, or for several runs into the
    current one. The same runs give the same bytes.
    """
    runs = [rundir.read(path) for path in dirs]
    out = Path(out) if out else runs[0].path if len(runs) == 1 else Path()
    out.mkdir(parents=True, exist_ok=True)
    draw.png(runs, out / "curves.png")
    page = out / "report.html"
    page.write_text(_page(runs), encoding="utf-8")
    return page


def curves(dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Draw the curves of these runs into the PNG file `out`."""
    return draw.png([rundir.read(path) for path in dirs], Path(out))


def _page(runs: list[RunDir]) -> str:
    names, alone = draw.labels(runs), len(runs) == 1
    same = len({run.name for run in runs}) == 1
    title = runs[0].name if same else ", ".join(dict.fromkeys(run.name for run in runs))
    parts = [_head(runs, title), _curves(runs), _section("Numbers", _numbers(runs, names))]
    if not alone:
        parts.append(_section("What differs", _differences(runs, names)))
    for run, name in zip(runs, names, strict=True):
        if samples := _samples(run):
            parts.append(_section("Samples" if alone else f"Samples of {name}", samples))
    for run, name in zip(runs, names, strict=True):
        parts.append(_section("Provenance" if alone else f"Provenance of {name}", _provenance(run)))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_css()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


# ---- Parts of the page


def _head(runs: list[RunDir], title: str) -> str:
    family, _, name = title.rpartition("/") if title.count("/") == 1 else ("", "", title)
    facts, figures = [f"{len(runs)} runs"], ""
    if len(runs) == 1:
        run = runs[0]
        last = max(points[-1][0] for points in run.series.values())
        parameters = f"{run.parameters:,} parameters" if run.parameters else ""
        facts = [parameters, f"{last:,} steps", run.devices, _time(run)]
        chosen = [m for m in run.metrics() if not m.startswith("train/")][:4] or run.metrics()[:1]
        figures = "".join(f"<div><dt>{escape(m)}</dt><dd>{draw.number(run.final(m))}</dd></div>" for m in chosen)
        figures = f'<dl class="figures">{figures}</dl>'
    said = dict.fromkeys(line for run in runs for line in run.said.get("lines", []))
    lines = "".join(f"<li>{_noted(line)}</li>" for line in said)
    family = f"<small>{escape(family)}</small>" if family else ""
    return (
        f"<header>\n<h1>{family}{escape(name)}</h1>\n"
        f"<p>{escape(' · '.join(filter(None, facts)))}</p>\n{figures}\n"
        f"{f'<ul>{lines}</ul>' if lines else ''}\n</header>"
    )


def _noted(line: str) -> str:
    """`label  words`, two spaces apart as the terminal shows them, with the label set off."""
    label, _, words = line.partition("  ")
    return f"<i>{escape(label)}</i> {escape(words.strip())}" if words else escape(line)


def _time(run: RunDir) -> str:
    from tools.ledger import duration

    taken = rundir.seconds(run.path)
    return "" if taken is None else duration(taken)


def _curves(runs: list[RunDir]) -> str:
    keys = "".join(
        f'<li><i class="{split}" style="--hue: var(--{"quiet" if hue is None else f"hue{hue}"})">'
        f"</i>{escape(label)}</li>"
        for label, hue, split in draw.key(runs)
    )
    main, *small = draw.panels(runs)
    multiples = "".join(f"<div>{draw.svg(runs, name, wide=False)}</div>" for name in small)
    return (
        f'<figure>\n<ul class="key">{keys}</ul>\n'
        f'<div class="wide">{draw.svg(runs, main, wide=True)}</div>\n'
        f'<div class="narrow">{draw.svg(runs, main, wide=False)}</div>\n'
        f'<div class="multiples">{multiples}</div>\n</figure>'
    )


def best(metric: str, points: list[tuple[int, float]]) -> tuple[int, float] | None:
    """(step, value) of a metric's best; None on test data, or where better has no known side."""
    split, _, name = metric.partition("/")
    numbers = [point for point in points if point[1] == point[1]]
    words = set(re.split("[^a-z0-9]+", name.lower()))
    lower = words & LOWER
    if split.startswith("test") or not numbers or not (lower or words & HIGHER):
        return None
    return (min if lower else max)(numbers, key=lambda point: point[1])


def _numbers(runs: list[RunDir], names: list[str]) -> str:
    rows = []
    for metric in dict.fromkeys(m for run in runs for m in run.metrics()):
        having = [(run, name) for run, name in zip(runs, names, strict=True) if metric in run.metrics()]
        for i, (run, name) in enumerate(having):
            top = best(metric, run.series.get(metric, []))
            baselines = run.said.get("baselines", {}).get(metric, {})
            rows.append(
                [
                    metric if i == 0 else "",
                    name,
                    draw.number(run.final(metric)),
                    draw.number(top[1]) if top else "",
                    f"{top[0]:,}" if top else "",
                    ", ".join(f"{k} {draw.tidy(f'{v:.4g}')}" for k, v in baselines.items()),
                ]
            )
    columns = ["metric", "run", "final", "best", "at step", "baselines"]
    drop = {1} if len(runs) == 1 else set()
    drop |= {5} if not any(row[5] for row in rows) else set()
    keep = [i for i in range(6) if i not in drop]
    return _table(
        [columns[i] for i in keep],
        [[row[i] for i in keep] for row in rows],
        {keep.index(i) for i in (2, 3, 4)},
    )


def _differences(runs: list[RunDir], names: list[str]) -> str:
    found = rundir.differences(run.config for run in runs)
    if not found:
        return "<p>Nothing: the configs are the same.</p>"
    return _table(["key", *names], [[key, *map(_value, values)] for key, values in found.items()])


def _table(head: list[str], rows: list[list[str]], numeric: Set[int] = frozenset()) -> str:
    def line(cells: list[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=n' if i in numeric else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
            )
            + "</tr>"
        )

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n<thead>{line(head, "th")}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _samples(run: RunDir) -> str:
    files = [f for f in (run.path / "samples").glob("*") if f.suffix in (".txt", ".png")]
    files = rundir.in_order(files)
    parts = []
    for file in reversed(files[-SAMPLES:]):
        caption = f"<figcaption>{escape(file.name)}</figcaption>"
        if file.suffix == ".png":
            data = base64.b64encode(file.read_bytes()).decode()
            content = f'<img alt="{escape(file.name)}" src="data:image/png;base64,{data}">'
        else:
            text = file.read_text(encoding="utf-8", errors="replace")
            more = "\n…" if len(text) > CHARACTERS else ""
            content = f"<pre>{escape(text[:CHARACTERS].strip(chr(10)))}{more}</pre>"
        parts.append(f'<figure class="sample">{caption}{content}</figure>')
    if len(files) > SAMPLES:
        parts.append(f"<p>{len(files) - SAMPLES} earlier ones lie in the run directory.</p>")
    return "\n".join(parts)


def _provenance(run: RunDir) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    facts = {"commit": run.commit, "devices": run.devices, "versions": versions}
    listed = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    flat = rundir.flatten(run.config)
    config = _table(["key", "value"], [[key, _value(value)] for key, value in flat.items()])
    return (
        f'<dl class="facts">{listed}</dl>\n<pre class="command">{escape(command(run))}</pre>\n'
        f"<details><summary>Config, {len(flat)} values</summary>\n{config}\n</details>"
    )


def command(run: RunDir) -> str:
    """What trains this run again: its commit, and its config by name with what was overridden."""
    from research.core import config

    try:
        named = config.plain(config.load(run.name))
    except UserError:  # renamed since; the commit still has it
        named = run.config
    changed = rundir.differences([named, run.config]).items()
    overrides = [shlex.quote(f"--config.{key}={_value(now)}") for key, (_, now) in changed if now != ABSENT]
    train = " ".join(["./almanac train", run.name, *overrides])
    clean = run.commit.removesuffix("+")
    dirty = "  # and changes that were not committed" if clean != run.commit else ""
    return f"git checkout {clean}{dirty}\n{train}" if clean else train


# ---- Style


def _css() -> str:
    light = "".join(f"--hue{i}: {light};" for i, (light, _) in enumerate(draw.HUES))
    dark = "".join(f"--hue{i}: {dark};" for i, (_, dark) in enumerate(draw.HUES))
    return _CSS.replace("/*light*/", light).replace("/*dark*/", dark)


_CSS = """
:root { color-scheme: light dark; --ink: #33312e; --quiet: #77736c; --rule: #e4e0d9;
  --paper: #fdfcfa; --shade: #f5f2ed; /*light*/ }
@media (prefers-color-scheme: dark) { :root { --ink: #dedad3; --quiet: #98938a; --rule: #37342f;
  --paper: #191816; --shade: #22201d; /*dark*/ } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
  font: 1.0625rem/1.55 Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype",
  Palatino, Georgia, serif; -webkit-text-size-adjust: 100%; }
main { max-width: 46rem; margin: 0 auto; padding: 4.5rem 1.25rem 6rem; }
h1 { margin: 0; font-size: 2.1rem; font-weight: 400; line-height: 1.15; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h1 small { display: block; margin-bottom: .35rem; font-size: 1rem; color: var(--quiet);
  letter-spacing: 0; }
h2 { margin: 3.5rem 0 .9rem; font-size: 1.3rem; font-weight: 400; overflow-wrap: anywhere; }
header p { margin: .6rem 0 0; color: var(--quiet); }
header ul { margin: 1.5rem 0 0; padding: 0; list-style: none; }
header li { padding-left: 1.5rem; text-indent: -1.5rem; }
header li i { font-style: normal; color: var(--quiet); }
dl { margin: 0; } dd { margin: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem 2.75rem; margin-top: 2rem; }
.figures dt { color: var(--quiet); font-size: .9rem; }
.figures dd { font-size: 2rem; line-height: 1.2; font-variant-numeric: lining-nums tabular-nums; }
figure { margin: 2.5rem 0 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text, .key, table, .sample figcaption, .facts, summary { font-family: ui-sans-serif,
  system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
.narrow { display: none; }
.multiples { display: grid; grid-template-columns: repeat(2, 1fr); gap: 1.75rem 2rem;
  margin-top: 2rem; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 0 0 1rem; padding: 0;
  list-style: none; font-size: .85rem; overflow-wrap: anywhere; }
.key i { display: inline-block; width: 1.5rem; margin-right: .5rem; vertical-align: .25em;
  border-top: 2.5px solid var(--hue); border-radius: 2px; }
.key .train { border-top-width: 1.5px; opacity: .55; }
.key .test { border-top-style: dotted; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.4; }
th, td { padding: .45rem 1.25rem .45rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 400; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.sample { margin-top: 1.5rem; }
.sample figcaption { margin-bottom: .4rem; color: var(--quiet); font-size: .8rem; }
.sample img { max-width: 100%; height: auto; border-radius: 4px; }
pre { margin: 0; padding: 1rem 1.1rem; border-radius: 6px; background: var(--shade);
  font: .8125rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem;
  font-size: .875rem; overflow-wrap: anywhere; }
.facts dt { color: var(--quiet); }
.command, details { margin-top: 1.1rem; }
summary { cursor: pointer; color: var(--quiet); font-size: .875rem; }
details[open] summary { margin-bottom: .6rem; }
@media (max-width: 34rem) {
  main { padding-top: 2.25rem; }
  h1 { font-size: 1.7rem; } .figures dd { font-size: 1.6rem; }
  .multiples { grid-template-columns: 1fr; }
  .wide { display: none; } .narrow { display: block; }
}
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac report",
        description=("Write report.html (self-contained) and curves.png for one run, or several compared."),
    )
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="run directories")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where to; default: the run's directory, or for several runs the current one",
    )
    args = parser.parse_args(argv)
    print(write(args.dirs, args.out))
    return 0
