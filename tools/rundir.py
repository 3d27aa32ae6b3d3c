"""Read a run directory: its config, its logs and what the run says of itself."""

import argparse
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.core.config import flatten
from research.host import storage
from research.host.errors import UserError

ABSENT = "(absent)"
Series = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class RunDir:
    """One run, as its files tell it.

    `series` maps split/name to [(step, value), ...] and `timing` a rate to the same, both in order
    of steps; `said` is report.json, empty where the run wrote none.
    """

    path: Path
    name: str
    config: dict[str, Any]
    versions: dict[str, str]
    commit: str
    devices: str
    parameters: int | None
    series: Series
    timing: Series
    said: dict[str, Any]

    def final(self, metric: str) -> float:
        """What the run says is its final value, else the last one logged."""
        said = self.said.get("final", {})
        return said[metric] if metric in said else self.series[metric][-1][1]

    def metrics(self) -> list[str]:
        """Every split/name logged or stated as final; validation first, training last."""
        return sorted(self.series.keys() | self.said.get("final", {}).keys(), key=_rank)

    def drawn(self) -> list[str]:
        """The metrics that have a curve."""
        return sorted(self.series, key=_rank)


def _rank(metric: str) -> tuple[int, bool, str]:
    split, _, name = metric.partition("/")
    return {"valid": 0, "test": 1, "train": 3}.get(split, 2), name != "loss", metric


def read(path: str | Path) -> RunDir:
    """The run in `path`; a UserError names what is missing or damaged."""
    path = storage.fetch(path)
    if not path.is_dir():
        raise UserError(f"run directory {str(path)!r}: no such directory")
    run = read_json(path / "config.json")
    timing_file, said = path / "timing.jsonl", path / "report.json"
    timing: Series = {}
    for row in rows(timing_file) if timing_file.exists() else []:
        for rate in ("examples_per_s", "tokens_per_s", "mfu"):
            if row.get(rate) is not None:
                timing.setdefault(rate, []).append((row["step"], row[rate]))
    return RunDir(
        path=path,
        name=run["name"],
        config=run["config"],
        versions=run.get("versions", {}),
        commit=run.get("commit") or "",
        devices=run.get("devices") or "",
        parameters=run.get("parameters"),
        series=series(path / "metrics.jsonl"),
        timing=timing,
        said=read_json(said) if said.exists() else {},
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a UserError if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this a run directory?") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None


def rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; half a last line (a kill while writing) is left out."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; has the run logged anything?") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError:
            if line.endswith("\n"):
                raise UserError(f"{path}, line {number}: not JSON: {line.strip()[:60]!r}") from None
    return found


def series(path: Path) -> Series:
    """metrics.jsonl as {split/name: [(step, value), ...]}; of two entries for a step the later."""
    values: dict[str, dict[int, float]] = {}
    for row in rows(path):
        for name, value in row["values"].items():
            by_step = values.setdefault(f"{row['split']}/{name}", {})
            by_step[row["step"]] = float("nan") if value is None else float(value)
    if not values:
        raise UserError(f"{path}: holds no metrics; has the run reached its first log?")
    return {name: sorted(by_step.items()) for name, by_step in values.items()}


def seconds(path: Path) -> float | None:
    """Time spent training, over all the run's lives; None if not logged."""
    file = Path(path) / "timing.jsonl"
    timed = rows(file) if file.exists() else []
    return timed[-1]["seconds"] if timed else None


def differences(configs: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """{dotted key: its value in each config} of the keys on which the configs disagree.

    Values are compared as JSON gives them back: a tuple in a config is a list in a log.
    """
    flats = [flatten(json.loads(json.dumps(config))) for config in configs]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    table = {key: [flat.get(key, ABSENT) for flat in flats] for key in keys}
    return {key: values for key, values in table.items() if any(v != values[0] for v in values)}


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a run and one of its checkpoints."""
    local = functools.partial(storage.fetch, newest=False)
    parser.add_argument("run", type=local, metavar="RUN", help="a run directory")
    parser.add_argument("--checkpoint", default="best", metavar="best|last|STEP", help="default: best, else last")


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted by name, with the numbers in it counted as numbers: step_9 before step_10."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.findall(r"\d+|\D+", path.name)
        return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]

    return sorted(paths, key=key)
