"""`almanac report DIR...`: one self-contained page for a run, or for several side by side.

The page loads nothing and runs no script: styles, curves (SVG) and samples are in the file. Its content comes from run
directories, which are not trusted: every element is made by research/util/markup.py, which escapes it.
"""

import argparse
import json
import re
import shlex
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from research.run import run_logs
from research.run.run_logs import ABSENT, RunDir
from research.util import markup, run_files
from research.util.errors import UserError
from research.util.escape import visible
from research.util.files import write_bytes, write_errors, write_text
from research.util.markup import Markup, tag
from tools.results import curves as draw
from tools.results import report_style

LOWER = frozenset("loss nll perplexity ppl error errors mse rmse mae entropy bits wer cer fid ece kl".split())
HIGHER = frozenset("accuracy acc bleu f1 em auc recall precision ndcg hit iou dice map ap elbo score r2".split())
SAMPLES, CHARACTERS = 8, 6_000  # the most samples per run, and characters per text
NOTHING = Markup()


def write(dirs: Sequence[str | Path], out: str | Path | None = None, metrics: Sequence[str] = ()) -> Path:
    """Writes report.html and curves.png of these runs to the folder `out` -> the path of report.html.

    Without `out` they are written to the run's own directory or, for several runs, to the current one. `metrics` are those whose
    curves are drawn, the first one large; none: all. The same runs give the same bytes. Raises UserError if a run cannot be
    read, has no such curve, or `out` cannot be written.
    """
    runs = [run_logs.read(path) for path in dirs]
    draw.panels(runs, metrics)
    out = Path(out) if out else runs[0].path if len(runs) == 1 else Path()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out={out}: cannot make this folder: {e.strerror}") from None
    page = out / "report.html"
    picture, text = draw.png(runs, metrics), _page(runs, metrics)
    with write_errors(out):
        write_bytes(out / "curves.png", picture)
        write_text(page, text)
    return page


def _page(runs: list[RunDir], metrics: Sequence[str]) -> str:
    names, alone = draw.labels(runs), len(runs) == 1
    same = len({run.name for run in runs}) == 1
    title = runs[0].name if same else ", ".join(dict.fromkeys(run.name for run in runs))
    parts = [_head(runs, title), _curves(runs, metrics), _section("Numbers", _numbers(runs, names))]
    if not alone:
        parts.append(_section("What differs", _differences(runs, names)))
    for run, name in zip(runs, names, strict=True):
        if samples := _samples(run):
            parts.append(_section("Samples" if alone else f"Samples of {name}", samples))
    for run, name in zip(runs, names, strict=True):
        parts.append(_section("Provenance" if alone else f"Provenance of {name}", _provenance(run)))
    return markup.page(title, report_style.css(), tag("main", markup.join(*parts, by="\n")))


def _section(title: str, content: Markup) -> Markup:
    return tag("section", tag("h2", title), "\n", content)


# ---- Parts of the page


def _head(runs: list[RunDir], title: str) -> Markup:
    family, _, name = title.rpartition("/") if title.count("/") == 1 else ("", "", title)
    facts, figures = [f"{len(runs)} runs"], NOTHING
    if len(runs) == 1:
        run = runs[0]
        last = max(points[-1][0] for points in run.series.values())
        parameters = f"{run.parameters:,} parameters" if run.parameters else ""
        facts = [parameters, f"{last:,} steps", run.devices, _time(run)]
        chosen = [m for m in run.metrics() if not m.startswith("train/")][:4] or run.metrics()[:1]
        values = [tag("div", tag("dt", m), tag("dd", draw.number(run.final(m)))) for m in chosen]
        figures = tag("dl", *values, class_="figures")
    notes = dict.fromkeys(line for run in runs for line in run.said.get("lines", []))
    return tag(
        "header",
        tag("h1", tag("small", family) if family else NOTHING, name),
        tag("p", " · ".join(filter(None, facts))),
        figures,
        tag("ul", *(tag("li", _note(line)) for line in notes)) if notes else NOTHING,
    )


def _note(line: str) -> Markup:
    """A line of a run's report, "label  text" with two spaces between, with the label in italics."""
    label, _, text = line.partition("  ")
    return markup.join(tag("i", label), " ", text.strip()) if text else markup.join(line)


def _time(run: RunDir) -> str:
    from tools.results.ledger import duration

    return "" if run.seconds is None else duration(run.seconds)


def _curves(runs: list[RunDir], metrics: Sequence[str]) -> Markup:
    keys = []
    for label, hue, split in draw.key(runs):
        line = tag("i", class_=split if split in draw.DASHES else None, style=f"--hue: var(--{draw.variable(hue)})")
        keys.append(tag("li", line, label))
    main, *small = draw.panels(runs, metrics)
    return tag(
        "figure",
        tag("ul", *keys, class_="key"),
        tag("div", draw.svg(runs, main, wide=True), class_="wide"),
        tag("div", draw.svg(runs, main, wide=False), class_="narrow"),
        tag("div", *(tag("div", draw.svg(runs, name, wide=False)) for name in small), class_="multiples"),
    )


def best(metric: str, points: list[tuple[int, float]]) -> tuple[int, float] | None:
    """The (step, value) at which a metric is best; None for test data, or if its name does not say whether lower is better.

    >>> best("valid/loss", [(1, 0.9), (2, 0.5), (3, 0.7)])
    (2, 0.5)
    """
    split, _, name = metric.partition("/")
    numbers = [point for point in points if point[1] == point[1]]  # without NaN
    words = set(re.split("[^a-z0-9]+", name.lower()))
    lower = words & LOWER
    if split.startswith("test") or not numbers or not (lower or words & HIGHER):
        return None
    return (min if lower else max)(numbers, key=lambda point: point[1])


def _numbers(runs: list[RunDir], names: list[str]) -> Markup:
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


def _differences(runs: list[RunDir], names: list[str]) -> Markup:
    differences = run_logs.differences(run.config for run in runs)
    if not differences:
        return tag("p", "Nothing: the configs are the same.")
    return _table(["key", *names], [[key, *map(_value, values)] for key, values in differences.items()])


def _table(head: list[str], rows: list[list[str]], numeric: Set[int] = frozenset()) -> Markup:
    def line(cells: list[str], kind: str) -> Markup:
        return tag("tr", *(tag(kind, cell, class_="n" if i in numeric else None) for i, cell in enumerate(cells)))

    body = tag("tbody", markup.join(*(line(row, "td") for row in rows), by="\n"))
    return tag("div", tag("table", tag("thead", line(head, "th")), "\n", body), class_="scroll")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _samples(run: RunDir) -> Markup:
    folder = run_files.inside(run.path, "samples")
    files = run_logs.in_order(f for f in folder.glob("*") if f.suffix in (".txt", ".png"))
    parts = [_sample(run, file) for file in reversed(files[-SAMPLES:])]
    if len(files) > SAMPLES:
        parts.append(tag("p", f"{len(files) - SAMPLES} earlier ones are in the run directory."))
    return markup.join(*parts, by="\n")


def _sample(run: RunDir, file: Path) -> Markup:
    """A sample's text or image, or the reason why it cannot be read, such as a link that leads out of the run directory."""
    try:
        data = run_files.read_bytes(run_files.inside(run.path, f"samples/{file.name}"))
    except UserError as e:
        content = tag("p", str(e))
    else:
        content = markup.image(data, file.name) if file.suffix == ".png" else _text(data)
    return tag("figure", tag("figcaption", file.name), content, class_="sample")


def _text(data: bytes) -> Markup:
    text = data.decode("utf-8", errors="replace")
    more = "\n…" if len(text) > CHARACTERS else ""
    return tag("pre", text[:CHARACTERS].strip("\n"), more)


def _provenance(run: RunDir) -> Markup:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    facts = {"commit": run.commit, "devices": run.devices, "versions": versions}
    items = markup.join(*(markup.join(tag("dt", k), tag("dd", v)) for k, v in facts.items() if v))
    flat = run_logs.flatten(run.config)
    config = _table(["key", "value"], [[key, _value(value)] for key, value in flat.items()])
    return markup.join(
        tag("dl", items, class_="facts"),
        _attempts(run),
        tag("pre", command(run), class_="command"),
        tag("details", tag("summary", f"Config, {len(flat)} values"), config),
        by="\n",
    )


def _attempts(run: RunDir) -> Markup:
    """A row for each attempt, if there are several: its first step, time and commit, and the changes since the one before."""
    if len(run.attempts) < 2:
        return NOTHING
    rows = []
    for attempt in run.attempts:
        begun = "-" if attempt["step"] is None else f"{attempt['step']:,}"
        changes = [*attempt.get("changed", []), *(f"{file} edited" for file in attempt.get("edited", []))]
        note = "; ".join(changes) or attempt.get("note", "-")
        rows.append(
            [begun, attempt.get("when", "-"), attempt.get("commit") or "-", attempt.get("devices") or "-", note]
        )
    return _table(["from step", "begun", "commit", "devices", "changed since the attempt before"], rows)


def command(run: RunDir) -> str:
    """The shell commands that repeat this run: checkout of its commit, and training with its config and overrides, quoted."""
    from research.core import config

    try:
        defaults = config.plain(config.from_module(run.name))
    except UserError:  # renamed since; the commit still has it
        defaults = run.config
    overridden = run_logs.differences([defaults, run.config]).items()
    overrides = [shlex.quote(f"--config.{key}={_value(value)}") for key, (_, value) in overridden if value != ABSENT]
    train = " ".join(["./almanac train", shlex.quote(run.name), *overrides])
    clean = run.commit.removesuffix("+")
    dirty = "  # and changes that were not committed" if clean != run.commit else ""
    is_commit = re.fullmatch("[0-9a-f]+", clean)  # anything else might be an option of git's
    return f"git checkout {clean}{dirty}\n{train}" if is_commit else train


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac report",
        description="Writes report.html (self-contained) and curves.png for one run, or several compared.",
    )
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="run directories")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="the folder to write to; default: the run's directory, or for several runs the current one",
    )
    parser.add_argument(
        "--metrics", metavar="NAME,...", help="draw these metrics alone, the first one large, such as loss,accuracy"
    )
    args = parser.parse_args(argv)
    if args.out == "":
        raise UserError("--out=: give a folder")
    metrics = [name.strip() for name in args.metrics.split(",")] if args.metrics else []
    print(visible(write(args.dirs, args.out, metrics)))
    return 0
