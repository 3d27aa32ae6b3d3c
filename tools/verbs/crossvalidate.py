"""`almanac crossvalidate NAME --folds K`: trains an experiment once for each fold; the mean over the folds."""

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
    """Trains `name` once with each of `folds` folds held out as test data. Returns the results, written to workdir/folds.json.

    A fold's value is that of `metric` at the best step by the config's `best`, which is measured on validation data from the
    other folds; without a `best` metric, at the last step. A finished fold is not trained again; an unfinished one resumes.
    Raises UserError if the data has no folds, or `best` selects on test data.
    """
    cfg = config.load(name, overrides)
    if "folds" not in config.plain(cfg)["data"]:
        raise UserError(f"{name} has no data.folds: its data cannot be cut into folds")
    best = cfg.best
    if (best.metric or "").startswith("test/"):
        raise UserError(f"best.metric = {best.metric!r} would select on the held-out fold; select on validation")
    rule = f"{best.mode}:{best.metric}" if best.metric else "last"
    values = []
    for fold in range(folds):
        path = workdir / f"fold_{fold}"
        print(f"{name}: fold {fold} of 0..{folds - 1} in {visible(path)}", flush=True)
        train.run(name, [*overrides, f"data.folds={folds}", f"data.fold={fold}"], path)
        values.append(ledger.select(run_logs.series(path / "metrics.jsonl"), metric, rule))
    results = {
        "name": name, "folds": folds, "metric": metric, "select": rule, "values": values,
        "mean": statistics.fmean(values), "sd": statistics.stdev(values),
    }  # fmt: skip
    write_json(workdir / "folds.json", results)
    return results


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac crossvalidate", allow_abbrev=False,
        description="Trains an experiment once for each fold, with that fold held out, and prints the mean over the folds.",
    )  # fmt: skip
    parser.add_argument("name", metavar="FAMILY/NAME", help="see almanac list")
    parser.add_argument("--folds", default="5", metavar="K", help="at least 2 (default: 5)")
    parser.add_argument("--metric", default="test/accuracy", help="default: test/accuracy, on the held-out fold")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="default: runs/crossvalidate/FAMILY/NAME")
    args, overrides = options.overrides(argv, parser)
    folds = options.parse_int("--folds", args.folds, 2)
    workdir = args.workdir or Path(options.DEFAULT_ROOT) / "crossvalidate" / args.name
    results = cross_validate(args.name, folds, workdir, args.metric, overrides)
    values = ", ".join(f"{value:.4f}" for value in results["values"])
    mean = f"{visible(results['metric'])} {results['mean']:.4f} ± {results['sd']:.4f}"
    print(f"{mean} ({folds} folds: {values}), by {results['select']}")
    return 0
