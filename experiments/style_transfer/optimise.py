"""Paints one picture in the style of another by descent on its pixels: python -m experiments.style_transfer.optimise PICTURE

Gatys, Ecker and Bethge 2016 (1508.06576), by Adam. With --run the objective is that of a trained network, which takes one pass
and is printed beside.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.style_transfer import objective as objectives
from experiments.style_transfer.objective import Objective
from research.cluster.exits import guarded
from research.evals import images
from research.run import reopen
from research.util.errors import UserError


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.style_transfer.optimise", description=__doc__)
    parser.add_argument("picture", type=Path, help="what is painted")
    parser.add_argument("--style", type=Path, help="a picture in that style (default: scikit-learn's flower.jpg)")
    parser.add_argument("--run", type=Path, help="a run, in place of --style, --features and the weights")
    parser.add_argument("--out", type=Path, default=Path("restyled.png"), help="default: restyled.png")
    parser.add_argument("--size", type=int, default=192, help="pixels of both pictures' shorter side (default: 192)")
    parser.add_argument("--features", default="efficientnet_lite0", help="or random (default: efficientnet_lite0)")
    parser.add_argument("--style-weight", type=float, default=20.0, help="beside a content's of 1 (default: 20)")
    parser.add_argument("--variation-weight", type=float, default=30.0, help="of neighbours' differences (default: 30)")
    parser.add_argument("--start", choices=("picture", "noise"), default="picture", help="default: picture")
    parser.add_argument("--steps", type=int, default=200, help="of Adam (default: 200)")
    parser.add_argument("--rate", type=float, default=0.02, help="its learning rate (default: 0.02)")
    args = parser.parse_args(argv)
    if args.steps < 1:
        raise UserError(f"--steps={args.steps}: at least 1")
    if args.run and args.style:
        raise UserError(f"--style={args.style} contradicts --run, which has a style; leave one out")
    original = objectives.picture(str(args.picture), args.size)[None]
    pictures = {"the picture": original}
    if args.run:
        e, state, _ = reopen.load(args.run, "best")
        objective = e.data.objective
        pictures["the network"] = jax.jit(e.predictor.fn)(state.variables, {"image": original})["image"]
    else:
        style = objectives.picture(args.style and str(args.style), args.size)
        coefficients = {"content": 1.0, "style": args.style_weight, "variation": args.variation_weight}
        objective = Objective(args.features, style, coefficients)
    start = original if args.start == "picture" else np.asarray(jax.random.uniform(jax.random.key(0), original.shape))
    began = time.perf_counter()
    painted = optimised(objective, start, original, args.steps, args.rate)
    _print_terms(objective, {**pictures, "the start": start, "the end": painted}, original)
    print(f"{args.steps} steps in {time.perf_counter() - began:.0f} s")
    images.save_png(args.out, images.grid(painted))
    print(args.out)
    return 0


def optimised(objective: Objective, start: Any, original: Any, steps: int, rate: float) -> np.ndarray:
    """A picture f32[1, Y, X, 3] in 0..1 that begins at `start` and lowers the objective."""
    tx = optax.adam(rate)

    def loss(image: jax.Array, original: jax.Array) -> jax.Array:
        return objective.total(objective(image, original)).sum()

    @jax.jit
    def descend(image: jax.Array, original: jax.Array) -> jax.Array:
        def step(_: Any, carry: tuple) -> tuple:
            image, opt = carry
            update, opt = tx.update(jax.grad(loss)(image, original), opt)
            return jnp.clip(image + update, 0, 1), opt

        return jax.lax.fori_loop(0, steps, step, (image, tx.init(image)))[0]

    return np.asarray(descend(jnp.asarray(start), jnp.asarray(original)))


def _print_terms(objective: Objective, pictures: dict[str, Any], original: Any) -> None:
    terms = jax.jit(objective)
    for name, image in pictures.items():
        values = {term: float(x[0]) for term, x in terms(image, original).items()}
        values["loss"] = objective.total(values)
        print(f"{name:12s} " + "   ".join(f"{term} {value:.4f}" for term, value in values.items()))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
