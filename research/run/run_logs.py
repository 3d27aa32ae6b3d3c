"""Read a run directory: its config, its logs and what the run says of itself, each checked (see research/util/run_files.py)."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.core import upgrade
from research.core.config import flatten
from research.run import object_store
from research.util import run_files
from research.util.errors import UserError
from research.util.run_files import COUNT, FINITE, OBJECT, TEXT, Kind, Shape

ABSENT = "(absent)"
Series = dict[str, list[tuple[int, float]]]
_SEED = Shape({"sha256": TEXT}, {"seconds": run_files.maybe(FINITE), "commit": run_files.maybe(TEXT)})
_SEEDS = run_files.many(
    Kind("an object with a text 'sha256' and a finite number or null 'seconds'", lambda v: not _SEED.fault(v))
)
RECORD = Shape(  # run.json beside the logs of a reproduction
    {"config": OBJECT, "seeds": _SEEDS},
    {
        "name": TEXT,
        "parameters": run_files.maybe(COUNT),
        "machine": OBJECT,
        "commit": run_files.maybe(TEXT),
        "config_version": COUNT,
    },
)
BEGUN = Shape(
    {"config": OBJECT}, {"machine": OBJECT, "config_version": COUNT}
)  # seed_<k>.json beside a run of a reproduction


@dataclass(frozen=True)
class RunDir:
    """One run, as its files tell it.

    `series` maps split/name to [(step, value), ...] and `timing` a rate to the same, both in order
    of steps; `said` is report.json, empty where the run wrote none; `attempts` are those of config.json.
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
    seconds: float | None
    said: dict[str, Any]
    attempts: list[dict[str, Any]]

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
    """The run in `path`. Raises UserError that names what is missing, damaged, or a link that leads out of it."""
    path = object_store.fetch(path)
    if not path.is_dir():
        raise UserError(f"run directory {str(path)!r}: no such directory")
    run, said = read_json(path / "config.json", run_files.CONFIG), run_files.inside(path, "report.json")
    timed = _timed(path)
    timing: Series = {}
    for row in timed:
        for rate in ("examples_per_s", "tokens_per_s", "mfu"):
            if row.get(rate) is not None:
                timing.setdefault(rate, []).append((row["step"], row[rate]))
    return RunDir(
        path=path,
        name=run.get("name") or path.resolve().name,
        config=upgrade.of_file(run),
        versions=run.get("versions", {}),
        commit=run.get("commit") or "",
        devices=run.get("devices") or "",
        parameters=run.get("parameters"),
        series=series(path / "metrics.jsonl"),
        timing=timing,
        seconds=timed[-1].get("seconds") if timed else None,
        said=read_json(said, run_files.REPORT) if said.exists() else {},
        attempts=run.get("attempts", []),
    )


def read_json(path: Path, shape: Shape) -> dict[str, Any]:
    """The object in a JSON file of a run directory; UserError if it is absent, or not of that shape."""
    if not run_files.inside(path.parent, path.name).exists():
        raise UserError(f"{path}: no such file; is this a run directory?")
    return run_files.read_object(path, shape)


def series(path: Path) -> Series:
    """metrics.jsonl as {split/name: [(step, value), ...]}; of two entries for a step the later."""
    if not run_files.inside(path.parent, path.name).exists():
        raise UserError(f"{path}: no such file; has the run logged anything?")
    values: dict[str, dict[int, float]] = {}
    for row in run_files.read_rows(path, run_files.METRICS):
        for name, value in row["values"].items():
            by_step = values.setdefault(f"{row['split']}/{name}", {})
            by_step[row["step"]] = float("nan") if value is None else float(value)
    if not values:
        raise UserError(f"{path}: holds no metrics; has the run reached its first log?")
    return {name: sorted(by_step.items()) for name, by_step in values.items()}


def _timed(path: Path) -> list[dict[str, Any]]:
    file = run_files.inside(path, "timing.jsonl")
    return run_files.read_rows(file, run_files.TIMING) if file.exists() else []


def differences(configs: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """{dotted key: its value in each config} of the keys on which the configs disagree.

    Values are compared as JSON gives them back: a tuple in a config is a list in a log.
    """
    flats = [flatten(json.loads(json.dumps(config))) for config in configs]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    table = {key: [flat.get(key, ABSENT) for flat in flats] for key in keys}
    return {key: values for key, values in table.items() if any(v != values[0] for v in values)}


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted by name, with the numbers in it counted as numbers: step_9 before step_10."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
        return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts]

    return sorted(paths, key=key)
