"""Fills in hidden pixels of test pictures: python -m experiments.diffusion.inpaint RUN

The middle of each picture is hidden. The network's fill, of the class that the picture has, stands beside a harmonic one, and
its mean over several draws beside a single draw: the mean of what the pixels may be has the least squared error, and one draw
of it, though it looks like a digit, up to twice as much. Features are those of the classifier that judges samples.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.algorithms import picture_features
from research.cluster.exits import guarded
from research.evals import images
from research.evals.feature_distance import feature_distance
from research.evals.image_restoration import harmonic_fill, psnr
from research.generation.diffusion import Known
from research.run import reopen
from research.util import run_files
from research.util.errors import UserError

ROWS = 8  # pictures that are shown


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.diffusion.inpaint", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkpoint", default="best", help="best, last or a step (default: best)")
    parser.add_argument("--pictures", type=int, default=100, help="of the test part (default: 100)")
    parser.add_argument("--steps", type=int, default=20, help="from noise to picture (default: 20)")
    parser.add_argument("--repeats", type=int, default=5, help="of each step (default: 5)")
    parser.add_argument("--draws", type=int, default=5, help="of each picture, for their mean (default: 5)")
    args = parser.parse_args(argv)
    for name in ("pictures", "repeats", "draws"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name}={getattr(args, name)}: at least 1")
    e, state, _ = reopen.load(args.run, args.checkpoint)
    source = e.evals["test" if "test" in e.evals else "valid"].source
    batch = source.gather(np.arange(min(args.pictures, len(source))), 0)
    fills, known = filled(e, state.variables, batch, args.steps, args.repeats, args.draws)
    features = picture_features.make("classifier", e.data.images)
    original, hidden = features(batch["image"]), (~known[..., 0]).astype(np.float32)
    for name, fill in fills.items():
        error = np.square(fill - batch["image"])[~known].mean()  # of the hidden pixels of all pictures
        distance = float(feature_distance(features(fill.astype(np.float32)), original, hidden).mean())
        print(f"{name:24s} PSNR {psnr(error):6.2f} dB   feature distance {distance:.3f}")
    shown = [batch["image"], np.where(known, batch["image"], 0.5), *fills.values()]
    out = run_files.inside(args.run, "samples") / "inpainted.png"
    out.parent.mkdir(exist_ok=True)
    images.save_tiles(
        out, np.stack([part[:ROWS] for part in shown], 1).reshape(-1, *batch["image"].shape[1:]), len(shown)
    )
    print(out)
    return 0


def filled(
    e: Any, variables: Any, batch: Any, steps: int, repeats: int, draws: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """-> {name: pictures f[n, Y, X, C]}, and which of their pixels were known, bool[n, Y, X, C]."""
    image = batch["image"]
    known = np.ones(image.shape, bool)
    Y, X = image.shape[1:3]
    known[:, Y // 4 : Y - Y // 4, X // 4 : X - X // 4] = False
    drawn = [
        e.evaluator.sampler(
            variables, jax.random.key(i), batch["label"], Known(image, known, repeats), steps=steps, eta=1.0
        )
        for i in range(draws)
    ]
    return {
        "mean training picture": np.where(known, image, e.data.mean_picture),
        "harmonic": harmonic_fill(image, known[0, ..., 0]),
        "diffusion, one draw": drawn[0],
        f"diffusion, mean of {draws}": np.mean(drawn, 0),
    }, known


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
