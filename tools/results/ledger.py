"""The ledger: published numbers beside ours, computed from committed logs and configs.

A config states what it reproduces in `cfg.reproduces`, a dict (or a tuple of dicts, one a number):

    paper, metric            the source, and the split/name that measures it here
    value, low, high         what was published, and a two-sided tolerance for our mean: far too good is a slip as well.
                             None of the three where nothing was: ours is measured, not judged
    seeds                    how many the claim needs
    table, cost, note        optional words: where in the paper, what a seed costs, what differs
    select                   "last", or "min:valid/loss": the step with the best of another metric
    best_on_test             "min" or "max" where the source chose on test: shown, never judged

Logs lie in experiments/<family>/results/<name>/: seed_<k>.jsonl and run.json.
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
BRIEF = (*COLUMNS[:3], "ours, mean ± sd", COLUMNS[4])  # of README.md
REQUIRED, PUBLISHED = {"paper", "metric", "seeds"}, {"value", "low", "high"}
OPTIONAL = {"table", "cost", "note", "select", "best_on_test"}
OPEN = {"seed", "reproduces", "steps_per_launch"}  # keys that may differ in the runs of one experiment


def configs() -> dict[str, dict[str, Any]]:
    """Every config as plain values, by FAMILY/NAME in order."""
    from research.core import config

    return {name: config.plain(config.load(name)) for name in config.names()}


def targets(name: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The published numbers that a config states, checked; none is an empty list."""
    stated = config.get("reproduces") or []
    stated = [stated] if isinstance(stated, dict) else stated
    stated = [{k: v for k, v in target.items() if v is not None} for target in stated]
    stated = [target for target in stated if target]
    for target in stated:
        required = REQUIRED | (PUBLISHED if PUBLISHED & target.keys() else set())
        if missing := sorted(required - target.keys()):
            raise UserError(f"{name}: reproduces lacks {', '.join(missing)}")
        known = REQUIRED | PUBLISHED | OPTIONAL
        for key in sorted(target.keys() - known):
            raise UserError(f"{name}: reproduces.{key} is unknown{nearest(key, known)}")
        if "value" in target and not target["low"] <= target["high"]:
            raise UserError(f"{name}: reproduces.low {target['low']} is above its high {target['high']}")
    return stated


def results(root: Path, name: str) -> Path:
    """The folder of an experiment's committed logs, whether or not it exists."""
    family, _, short = name.partition("/")
    return root / "experiments" / family / "results" / short


def seed_logs(folder: Path) -> list[Path]:
    """The log of each seed, in order of seeds."""
    return run_logs.in_order(folder.glob("seed_*.jsonl"))


def sha256(path: Path) -> str:
    """Checksum of a committed log, as run.json records it."""
    return hashlib.sha256(run_files.read_bytes(run_files.inside(path.parent, path.name))).hexdigest()


# ---- Arithmetic


def select(series: run_logs.Series, metric: str, rule: str = "last") -> float:
    """A run's one number: `metric` at the last step, or where another metric was at its best.

    A rule is "last", "min:split/name" or "max:split/name". Selecting on test is an error; of equal
    best steps the first counts, and a NaN is never the best.
    """
    if metric not in series:
        raise UserError(f"no {metric!r} in the log{nearest(metric, series)}")
    if rule == "last":
        return series[metric][-1][1]
    way, _, judge = rule.partition(":")
    if way not in ("min", "max") or "/" not in judge:
        raise UserError(f'select {rule!r} is none of "last", "min:valid/NAME", "max:valid/NAME"')
    if judge.startswith("test"):
        raise UserError(f"select {rule!r} would choose on test data; choose on a validation metric")
    if judge not in series:
        raise UserError(f"no {judge!r} in the log{nearest(judge, series)}")
    step = _best(series[judge], way)[0]
    if step not in (values := dict(series[metric])):
        raise UserError(f"{metric!r} is not logged at step {step}, the {way} of {judge}")
    return values[step]


def _best(points: list[tuple[int, float]], way: str) -> tuple[int, float]:
    numbers = [point for point in points if point[1] == point[1]] or points
    return (min if way == "min" else max)(numbers, key=lambda point: point[1])


def verdict(target: dict[str, Any], values: list[float]) -> str:
    """met, MISSED, or how far the seeds have come; measured, where nothing was published."""
    if not values:
        return "not yet run"
    if len(values) < target["seeds"]:
        return f"{len(values)} of {target['seeds']} seeds run"
    if "value" not in target:
        return "measured"
    met = target["low"] <= statistics.fmean(values) <= target["high"]
    return "met" if met else "MISSED"


def measured(root: Path, name: str, target: dict[str, Any]) -> list[float]:
    """The selected value of every seed with a committed log."""
    found = []
    for log in seed_logs(results(root, name)):
        try:
            rule = target.get("select", "last")
            found.append(select(run_logs.series(log), target["metric"], rule))
        except UserError as error:
            raise UserError(f"{name}, {log.name}: {error}") from None
    return found


# ---- Words


def decimals(target: dict[str, Any]) -> int:
    """Decimals to print ours with: one more than the published value and its tolerance have; 4 without them."""
    if "value" not in target:
        return 4
    exponents = (Decimal(str(target[key])).as_tuple().exponent for key in ("value", "low", "high"))
    return 1 + max(-min(e, 0) for e in exponents if isinstance(e, int))


def summary(values: list[float], places: int, brief: bool = False) -> str:
    """`1.907 ± 0.007 (3 seeds: 1.915, 1.902, 1.904)`, or without each seed's; sd is the sample's (n - 1)."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    every = ", ".join(f"{value:.{places}f}" for value in values)
    seeds = f"{len(values)} seeds" + (f": {every}" if not brief else "") if len(values) > 1 else "1 seed"
    return f"{statistics.fmean(values):.{places}f}{spread} ({seeds})"


def _ours(root: Path, name: str, target: dict[str, Any], values: list[float], brief: bool) -> str:
    places, text = decimals(target), summary(values, decimals(target), brief)
    if (way := target.get("best_on_test")) and values:
        logs = [run_logs.series(log) for log in seed_logs(results(root, name))]
        best = [_best(log[target["metric"]], way)[1] for log in logs]
        text += f"; best on test {statistics.fmean(best):.{places}f}"
    return text


def cells(root: Path, name: str, target: dict[str, Any], link: str, brief: bool = False) -> list[str]:
    """One row of a table. `link` leads from the document to the folder of logs."""
    folder, values = results(root, name), measured(root, name, target)
    run = run_logs.read_json(folder / "run.json", run_logs.RECORD) if values else {}
    word, cost = verdict(target, values), target.get("cost", "-")
    if word in ("met", "MISSED"):
        word += f" ({target['low']:g} to {target['high']:g})"
    if known := [seed["seconds"] for seed in run.get("seeds", []) if seed.get("seconds") is not None]:
        cost += f" (took {duration(statistics.fmean(known))} a seed)"
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
    """`48 s`, `2 min 31 s`, `3 h 5 min`."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


class Block(NamedTuple):
    """A table in a document: of one family's numbers or of all (`family` None).

    A brief one has the first columns of the published numbers whose seeds have all been run, and no notes.
    """

    path: Path
    family: str | None = None
    brief: bool = False


def table(root: Path, stated: dict[str, list[dict[str, Any]]], block: Block) -> str:
    """The Markdown table of a block, with its notes."""
    columns = BRIEF if block.brief else COLUMNS
    rows, notes = [], []
    for name, found in stated.items():
        if block.family not in (None, name.partition("/")[0]):
            continue
        if block.brief:
            found = [t for t in found if verdict(t, measured(root, name, t)) in ("met", "MISSED")]
        link = Path(os.path.relpath(results(root, name), block.path.parent)).as_posix()
        rows += [cells(root, name, target, link, block.brief) for target in found]
        if not block.brief:
            notes += [f"- {name}, {t['metric']}: {_cell(t['note'])}" for t in found if t.get("note")]
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


def blocks(root: Path, known: dict[str, dict[str, Any]]) -> Iterator[Block]:
    """The tables of README.md, of docs/results.md and of each family that states a number or has the markers."""
    yield Block(root / README, brief=True)
    yield Block(root / RESULTS_PAGE)
    for family in sorted({name.partition("/")[0] for name in known}):
        path = root / "experiments" / family / "README.md"
        states = any(targets(n, c) for n, c in known.items() if n.partition("/")[0] == family)
        if states or (path.exists() and BEGIN in path.read_text()):
            yield Block(path, family)


def split(path: Path) -> tuple[str, str, str]:
    """A document as (up to and with the first marker, what stands between, from the second on)."""
    text = path.read_text() if path.exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(
            f"{path}: wants one line {BEGIN} and, after it, one line {END}, around the place of the results table"
        )
    head, rest = text.split(BEGIN)
    between, tail = rest.split(END)
    return head + BEGIN, between.strip("\n"), END + tail


def stated(known: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """{FAMILY/NAME: its published numbers} of the configs that state any."""
    return {name: found for name, config in known.items() if (found := targets(name, config))}


def refresh(root: Path, known: dict[str, dict[str, Any]], families: set[str | None]) -> list[Path]:
    """Writes the tables of these families anew (None: those of all families); returns the files that changed."""
    changed = []
    for block in blocks(root, known):
        if block.family in families:
            head, _, tail = split(block.path)
            text = f"{head}\n{table(root, stated(known), block)}\n{tail}"
            if text != block.path.read_text():
                write_text(block.path, text)
                changed.append(block.path)
    return changed


def parse(block: str) -> dict[str, list[str]]:
    """{row's name: its cells} of a block as `table` writes it; a note is a row of one cell."""
    rows: dict[str, list[str]] = {}
    for line in filter(None, block.splitlines()):
        found = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] or [line]
        name = re.sub(r"\[(.*)\]\(.*\)", r"\1", found[0])
        metric = found[1].rpartition(": ")[2] if len(found) > 1 else ""
        rows[" ".join(filter(None, (name, metric)))] = found
    return rows


def same_experiment(config: dict[str, Any]) -> dict[str, Any]:
    """A config without what may differ between its seeds, be reworded after the run, or says as before how a run is kept.

    None is the absence of a value: a key that came later, and is None, changes nothing. Nor does the number of steps a launch.
    """
    from research.core.config import RUN

    kept = {key for key, value in RUN.items() if config.get(key, value) == value}
    return _given({key: value for key, value in config.items() if key not in OPEN | kept})


def _given(tree: Any) -> Any:
    return {k: _given(v) for k, v in tree.items() if v is not None} if isinstance(tree, dict) else tree
