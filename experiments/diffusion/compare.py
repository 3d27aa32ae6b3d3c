"""How far samples of a run are from test pictures, by sampler: python -m experiments.diffusion.compare RUN

A table of the Fréchet distance, by research/algorithms/sample_metrics.py, by the number of steps with DDIM and with DDPM, by
guidance, and of the last weights in place of the averaged ones. Above it stands the floor: as many training pictures.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.algorithms.sample_metrics import QUALITY_TEST
from research.cluster.exits import guarded
from research.run import reopen
from research.util.errors import UserError

VARIED, GUIDANCE = 50, (1.0, 3.0)  # steps of the rows with guidance, and with the last weights


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.diffusion.compare", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkpoint", default="best", help="best, last or a step (default: best)")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100, 1_000])
    parser.add_argument("--samples", type=int, default=500, help="of each row (default: 500)")
    args = parser.parse_args(argv)
    if args.samples < 2:
        raise UserError(f"--samples={args.samples}: at least 2, as a distance is of covariances")
    e, state, _ = reopen.load(args.run, args.checkpoint)
    evaluation: Any = e.evaluator
    if evaluation.metrics is None or QUALITY_TEST not in evaluation.metrics.splits:
        raise UserError(
            f"{args.run}: samples are compared with test pictures; it needs sample.measured=True and a test part"
        )
    train = e.data.images.train
    order = np.random.default_rng(0).permutation(len(train))[: args.samples]

    print(
        "| sampler | steps | guidance | weights | Fréchet distance | precision | recall |\n|---|---|---|---|---|---|---|"
    )
    _print("training pictures", "", "", "", evaluation.metrics(train.gather(order, 0)["image"], QUALITY_TEST))
    for steps, eta, guidance, averaged in rows(args.steps, e.model.conditional, bool(state.ema)):
        variables = (state if averaged else state.replace(ema={})).variables
        drawn = evaluation.sampler(
            variables, jax.random.key(1), train.labels()[order], steps=steps, eta=eta, guidance=guidance
        )
        values = evaluation.metrics(drawn, QUALITY_TEST)
        _print("DDPM" if eta else "DDIM", steps, guidance, "averaged" if averaged else "last", values)
    return 0


def rows(steps: list[int], conditional: bool, has_average: bool) -> Iterator[tuple[int, float, float, bool]]:
    """(steps, eta, guidance, whether the weights are averaged) of each row."""
    for count in steps:
        for eta in (0.0, 1.0):
            yield count, eta, 0.0, has_average
            if count == VARIED and has_average:
                yield count, eta, 0.0, False
            if count == VARIED and conditional:
                yield from ((count, eta, guidance, has_average) for guidance in GUIDANCE)


def _print(*cells: Any) -> None:
    *names, values = cells
    numbers = [f"{values['frechet']:.2f}", f"{values['precision']:.2f}", f"{values['recall']:.2f}"]
    print("|", " | ".join(map(str, [*names, *numbers])), "|", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
