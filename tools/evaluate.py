"""`almanac evaluate RUN [--split valid]`"""

import argparse
import importlib
from typing import Any

from research.core import config
from research.host.errors import UserError, nearest
from research.host.escape import visible
from tools import rundir


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="almanac evaluate", description="Evaluates a run on its data.")
    rundir.add_run(parser)
    parser.add_argument("--split", default="valid", help="default: valid")
    args = parser.parse_args(argv)

    from research.core import mesh
    from tools import runs

    e, state, step = runs.load(args.run, args.checkpoint)
    with mesh.of(state.params):  # what was logged in training was computed so
        if e.quality is not None:
            print(f"step {step:,}")
            return _table("quality", e.quality(state))
        if args.split not in e.evals:
            raise UserError(f"--split={args.split}: this experiment has no such split{nearest(args.split, e.evals)}")
        values = _values(e, state, args.split)
    print(f"step {step:,}, {len(e.evals[args.split].source):,} examples of {args.split}")
    return _table(args.split, values)


def _values(e: Any, state: Any, split: str) -> dict[str, float]:
    import jax

    from research.core import metrics

    sweep = e.evals[split]
    rows = [e.eval_step(state, sweep.batch(i)) for i in range(len(sweep))]
    family = importlib.import_module(f"{config.EXPERIMENTS}.{config.family(e.cfg.name)}.train")
    whole = family.scores(e, state, split) if hasattr(family, "scores") else {}  # of the split, not of its batches
    return {**metrics.reduce(jax.device_get(rows)), **whole}


def _table(split: str, values: dict[str, float]) -> int:
    for name, value in values.items():
        print(f"  {split}/{visible(name):<20} {value:.4f}")
    return 0
