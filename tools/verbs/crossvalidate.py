"""`almanac crossvalidate NAME --folds K`: an experiment once a fold, and the mean over the folds."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import options
from research.core import config
from research.run import run_logs
from research.util.errors import UserError
from research.util.escape import visible
from research.util.files import write_json
from tools.results import ledger
from tools.verbs import train


def cross_validate(name: str, folds: int, workdir: Path, metric: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Trains `name` with each of `folds` folds held out as its test part; keeps what came of it in workdir/folds.json.

    A fold's number is that of `metric` at the step that is best by the config's `best`, which is chosen on the validation
    part of the other folds; at the last step where the config asks for no best. A fold that was trained is not trained again,
    one that was begun goes on.
    """
    cfg = config.load(name, overrides)
    if "folds" not in config.plain(cfg)["data"]:
        raise UserError(f"{name} has no data.folds: its data cannot be cut into folds")
    best = cfg.best
    if (best.metric or "").startswith("test/"):
        raise UserError(
            f"best.metric = {best.metric!r} would choose on the fold that is held out; choose on validation"
        )
    rule = f"{best.mode}:{best.metric}" if best.metric else "last"
    values = []
    for fold in range(folds):
        path = workdir / f"fold_{fold}"
        print(f"{name}: fold {fold} of 0..{folds - 1} in {visible(path)}", flush=True)
        train.run(name, [*overrides, f"data.folds={folds}", f"data.fold={fold}"], path)
        values.append(ledger.select(run_logs.series(path / "metrics.jsonl"), metric, rule))
    found = {
        "name": name, "folds": folds, "metric": metric, "select": rule, "values": values,
        "mean": statistics.fmean(values), "sd": statistics.stdev(values),
    }  # fmt: skip
    write_json(workdir / "folds.json", found)
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac crossvalidate", allow_abbrev=False,
        description="Trains an experiment once a fold, with that fold held out, and tells the mean over the folds.",
    )  # fmt: skip
    parser.add_argument("name", metavar="FAMILY/NAME", help="almanac list names them")
    parser.add_argument("--folds", default="5", metavar="K", help="at least 2 (default: 5)")
    parser.add_argument("--metric", default="test/accuracy", help="default: test/accuracy, of the fold held out")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="default: runs/crossvalidate/FAMILY/NAME")
    args, overrides = options.overrides(argv, parser)
    folds = options.whole("--folds", args.folds, 2)
    workdir = args.workdir or Path(options.DEFAULT_ROOT) / "crossvalidate" / args.name
    found = cross_validate(args.name, folds, workdir, args.metric, overrides)
    each = ", ".join(f"{value:.4f}" for value in found["values"])
    print(
        f"{visible(found['metric'])} {found['mean']:.4f} ± {found['sd']:.4f} ({folds} folds: {each}), by {found['select']}"
    )
    return 0
