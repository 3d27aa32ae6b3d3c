"""The ledger: published numbers beside ours, computed from committed logs and configs.

A config states the numbers that it reproduces in `cfg.reproduces`, a dict for each (one dict, or a tuple of them):

    paper, metric            the source, and the metric that measures it here, as split/name
    value, low, high         the published value, and a two-sided tolerance for the mean of our seeds: a value that is far
                             too good is an error as well. Without a published value none of the three: ours has no verdict
    seeds                    the number of seeds that the claim needs
    table, cost, note        optional text: the table of the paper, the cost of a seed, deviations
    select                   "last", or "min:valid/loss": the step at which another metric is best
    best_on_test             "min" or "max" if the source selected on test data: printed, but without effect on the verdict

Logs are in experiments/<family>/results/<name>/: seed_<k>.jsonl and run.json.
"""

import hashlib
import os
import re
import statistics
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from research.run import run_logs
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.files import write_text
from tools.root import README, RESULTS_PAGE

BEGIN, END = "<!-- ledger -->", "<!-- /ledger -->"
COLUMNS = (
    "experiment",
    "paper, metric",
    "published",
    "ours, mean ± sd (every seed)",
    "within tolerance?",
    "parameters",
    "cost",
    "command",
)
BRIEF = (*COLUMNS[:3], "ours, mean ± sd", COLUMNS[4])  # the columns in README.md
REQUIRED, PUBLISHED = {"paper", "metric", "seeds"}, {"value", "low", "high"}
OPTIONAL = {"table", "cost", "note", "select", "best_on_test"}
MAY_DIFFER = {"seed", "reproduces", "steps_per_launch"}  # keys that may differ between the runs of one experiment


def configs() -> dict[str, dict[str, Any]]:
    """{FAMILY/NAME: the config as plain values}, in the order of names."""
    from research.core import config

    return {name: config.plain(config.load(name)) for name in config.names()}


def targets(name: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The published numbers that a config states, without keys that are None; empty if it states none.

    Raises UserError if a key is missing or unknown, or `low` is above `high`.
    """
    reproduces = config.get("reproduces") or []
    reproduces = [reproduces] if isinstance(reproduces, dict) else reproduces
    reproduces = [{k: v for k, v in target.items() if v is not None} for target in reproduces]
    reproduces = [target for target in reproduces if target]
    for target in reproduces:
        required = REQUIRED | (PUBLISHED if PUBLISHED & target.keys() else set())
        if missing := sorted(required - target.keys()):
            raise UserError(f"{name}: reproduces lacks {', '.join(missing)}")
        allowed = REQUIRED | PUBLISHED | OPTIONAL
        for key in sorted(target.keys() - allowed):
            raise UserError(f"{name}: reproduces.{key} is unknown{nearest(key, allowed)}")
        if "value" in target and not target["low"] <= target["high"]:
            raise UserError(f"{name}: reproduces.low {target['low']} is above its high {target['high']}")
    return reproduces


def results(root: Path, name: str) -> Path:
    """The folder of an experiment's committed logs, which need not exist."""
    family, _, short = name.partition("/")
    return root / "experiments" / family / "results" / short


def seed_logs(folder: Path) -> list[Path]:
    """The committed logs, in the order of seeds."""
    return run_logs.in_order(folder.glob("seed_*.jsonl"))


def sha256(path: Path) -> str:
    """The SHA-256 digest of a committed log, as recorded in run.json."""
    return hashlib.sha256(run_files.read_bytes(run_files.inside(path.parent, path.name))).hexdigest()


# ---- Arithmetic


def select(series: run_logs.Series, metric: str, rule: str = "last") -> float:
    """The value of `metric` at the step that `rule` selects.

    A rule is "last", or "min:split/name" or "max:split/name": the step at which that metric is best. Of several equal steps the
    first is selected; NaN is never best. Raises UserError if a metric was not logged, or the rule selects on test data.

    >>> series = {"valid/loss": [(1, 0.9), (2, 0.5), (3, 0.7)], "test/accuracy": [(1, 0.6), (2, 0.7), (3, 0.8)]}
    >>> select(series, "test/accuracy"), select(series, "test/accuracy", "min:valid/loss")
    (0.8, 0.7)
    """
    if metric not in series:
        raise UserError(f"no {metric!r} in the log{nearest(metric, series)}")
    if rule == "last":
        return series[metric][-1][1]
    mode, _, criterion = rule.partition(":")
    if mode not in ("min", "max") or "/" not in criterion:
        raise UserError(f'select {rule!r} is none of "last", "min:valid/NAME", "max:valid/NAME"')
    if criterion.startswith("test"):
        raise UserError(f"select {rule!r} would choose on test data; choose on a validation metric")
    if criterion not in series:
        raise UserError(f"no {criterion!r} in the log{nearest(criterion, series)}")
    step = _best(series[criterion], mode)[0]
    if step not in (values := dict(series[metric])):
        raise UserError(f"{metric!r} is not logged at step {step}, the {mode} of {criterion}")
    return values[step]


def _best(points: list[tuple[int, float]], mode: str) -> tuple[int, float]:
    numbers = [point for point in points if point[1] == point[1]] or points
    return (min if mode == "min" else max)(numbers, key=lambda point: point[1])


def verdict(target: dict[str, Any], values: list[float]) -> str:
    """The verdict on our values, one per seed: "met" or "MISSED" if all seeds have been run; "measured" if nothing was published.

    >>> target = {"value": 1.0, "low": 0.9, "high": 1.1, "seeds": 2}
    >>> verdict(target, [1.0, 1.1]), verdict(target, [0.5, 0.6]), verdict(target, [1.0])
    ('met', 'MISSED', '1 of 2 seeds run')
    """
    if not values:
        return "not yet run"
    if len(values) < target["seeds"]:
        return f"{len(values)} of {target['seeds']} seeds run"
    if "value" not in target:
        return "measured"
    met = target["low"] <= statistics.fmean(values) <= target["high"]
    return "met" if met else "MISSED"


def measured(root: Path, name: str, target: dict[str, Any]) -> list[float]:
    """The selected value of each seed that has a committed log. Raises UserError if one cannot be selected."""
    values = []
    for log in seed_logs(results(root, name)):
        try:
            rule = target.get("select", "last")
            values.append(select(run_logs.series(log), target["metric"], rule))
        except UserError as error:
            raise UserError(f"{name}, {log.name}: {error}") from None
    return values


# ---- Text


def decimals(target: dict[str, Any]) -> int:
    """The decimals to print ours with: one more than the published value and its tolerance have; 4 without them.

    >>> decimals({"value": 0.91, "low": 0.9, "high": 0.925})
    4
    """
    if "value" not in target:
        return 4
    exponents = (Decimal(str(target[key])).as_tuple().exponent for key in ("value", "low", "high"))
    return 1 + max(-min(e, 0) for e in exponents if isinstance(e, int))


def summary(values: list[float], places: int, brief: bool = False) -> str:
    """Mean, sample standard deviation (n - 1) and, unless `brief`, each seed's value.

    >>> summary([1.915, 1.902, 1.904], 3)
    '1.907 ± 0.007 (3 seeds: 1.915, 1.902, 1.904)'
    """
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    listed = ", ".join(f"{value:.{places}f}" for value in values)
    seeds = f"{len(values)} seeds" + (f": {listed}" if not brief else "") if len(values) > 1 else "1 seed"
    return f"{statistics.fmean(values):.{places}f}{spread} ({seeds})"


def _ours(root: Path, name: str, target: dict[str, Any], values: list[float], brief: bool) -> str:
    places, text = decimals(target), summary(values, decimals(target), brief)
    if (mode := target.get("best_on_test")) and values:
        logs = [run_logs.series(log) for log in seed_logs(results(root, name))]
        best = [_best(log[target["metric"]], mode)[1] for log in logs]
        text += f"; best on test {statistics.fmean(best):.{places}f}"
    return text


def cells(root: Path, name: str, target: dict[str, Any], link: str, brief: bool = False) -> list[str]:
    """The cells of a table row. `link` is the path from the document to the folder of logs."""
    folder, values = results(root, name), measured(root, name, target)
    run = run_logs.read_json(folder / "run.json", run_logs.RECORD) if values else {}
    word, cost = verdict(target, values), target.get("cost", "-")
    if word in ("met", "MISSED"):
        word += f" ({target['low']:g} to {target['high']:g})"
    if seconds := [seed["seconds"] for seed in run.get("seeds", []) if seed.get("seconds") is not None]:
        cost += f" (took {duration(statistics.fmean(seconds))} a seed)"
    source = ", ".join(filter(None, (target["paper"], target.get("table"))))
    parameters = run.get("parameters")
    row = [
        _cell(text)
        for text in (
            f"[{name}]({link})" if values else name,
            f"{source}: {target['metric']}",
            f"{target['value']:g}" if "value" in target else "-",
            _ours(root, name, target, values, brief),
            word,
            f"{parameters:,}" if parameters else "-",
            cost,
            f"`almanac reproduce {name}`",
        )
    ]
    return row[: len(BRIEF)] if brief else row


def duration(seconds: float) -> str:
    """Seconds as text.

    >>> duration(48.2), duration(151), duration(11_100)
    ('48 s', '2 min 31 s', '3 h 5 min')
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def _cell(text: str) -> str:
    """Text for a Markdown table, on one line and with | escaped."""
    return " ".join(text.split()).replace("|", "\\|")


class Block(NamedTuple):
    """A table in the document `path`: the numbers of one family, or of all (`family` None).

    A brief table has only the first columns, only the published numbers whose seeds have all been run, and no notes.
    """

    path: Path
    family: str | None = None
    brief: bool = False


def table(root: Path, stated: dict[str, list[dict[str, Any]]], block: Block) -> str:
    """The Markdown table of a block, with its notes. `stated`: {FAMILY/NAME: its published numbers}."""
    columns = BRIEF if block.brief else COLUMNS
    rows, notes = [], []
    for name, targets in stated.items():
        if block.family not in (None, name.partition("/")[0]):
            continue
        if block.brief:
            targets = [t for t in targets if verdict(t, measured(root, name, t)) in ("met", "MISSED")]
        link = Path(os.path.relpath(results(root, name), block.path.parent)).as_posix()
        rows += [cells(root, name, target, link, block.brief) for target in targets]
        if not block.brief:
            notes += [f"- {name}, {t['metric']}: {_cell(t['note'])}" for t in targets if t.get("note")]
    if not rows:
        return (
            "No published number has been repeated yet."
            if block.brief
            else "No experiment here states a published number."
        )
    lines = [columns, ["---"] * len(columns), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([text, "\n".join(notes)]) if notes else text


# ---- Documents


def blocks(root: Path, configs: dict[str, dict[str, Any]]) -> Iterator[Block]:
    """The tables of README.md, of docs/results.md, and of each family that states a number or whose README has the markers."""
    yield Block(root / README, brief=True)
    yield Block(root / RESULTS_PAGE)
    for family in sorted({name.partition("/")[0] for name in configs}):
        path = root / "experiments" / family / "README.md"
        has_targets = any(targets(n, c) for n, c in configs.items() if n.partition("/")[0] == family)
        if has_targets or (path.exists() and BEGIN in path.read_text()):
            yield Block(path, family)


def split(path: Path) -> tuple[str, str, str]:
    """A document -> the text up to and including the first marker, the text between the markers, and the text from the second on.

    Raises UserError unless it has each marker once, in order.
    """
    text = path.read_text() if path.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(
            f"{path}: wants one line {BEGIN} and, after it, one line {END}, around the place of the results table"
        )
    head, after = text.split(BEGIN)
    between, tail = after.split(END)
    return head + BEGIN, between.strip("\n"), END + tail


def stated(configs: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """{FAMILY/NAME: its published numbers} of the configs that state at least one."""
    numbers = {name: targets(name, config) for name, config in configs.items()}
    return {name: numbers[name] for name in numbers if numbers[name]}


def refresh(root: Path, configs: dict[str, dict[str, Any]], families: set[str | None]) -> list[Path]:
    """Rewrites the tables of these families (None: the tables over all families). Returns the files that changed."""
    changed = []
    for block in blocks(root, configs):
        if block.family in families:
            head, _, tail = split(block.path)
            text = f"{head}\n{table(root, stated(configs), block)}\n{tail}"
            if text != block.path.read_text():
                write_text(block.path, text)
                changed.append(block.path)
    return changed


def parse(block: str) -> dict[str, list[str]]:
    """The text of a block, as written by `table` -> {name of a row: its cells}. A note is a row of one cell.

    >>> parse("| [gan/grid](results/grid) | PacGAN: valid/modes | 25 |")
    {'gan/grid valid/modes': ['[gan/grid](results/grid)', 'PacGAN: valid/modes', '25']}
    """
    rows: dict[str, list[str]] = {}
    for line in filter(None, block.splitlines()):
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] or [line]
        name = re.sub(r"\[(.*)\]\(.*\)", r"\1", cells[0])
        metric = cells[1].rpartition(": ")[2] if len(cells) > 1 else ""
        rows[" ".join(filter(None, (name, metric)))] = cells
    return rows


def same_experiment(config: dict[str, Any]) -> dict[str, Any]:
    """A config reduced to the keys that define the experiment; equal for runs that are comparable.

    Left out are the keys that may differ between seeds or change after the run (MAY_DIFFER), keys of `config.RUN` with the
    default value, and keys that are None: a key that was added later and is None changes nothing. A model's keys all stay, since
    `upgrade` gives an old config those that it lacks.
    """
    from research.core.config import RUN

    defaults = {key for key, value in RUN.items() if config.get(key, value) == value}
    kept = {key: value for key, value in config.items() if key not in MAY_DIFFER | defaults}
    return _without_none(kept) | ({"model": kept["model"]} if "model" in kept else {})


def _without_none(tree: Any) -> Any:
    return {k: _without_none(v) for k, v in tree.items() if v is not None} if isinstance(tree, dict) else tree
