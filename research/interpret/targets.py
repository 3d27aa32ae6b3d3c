"""What is explained of a prediction about a picture: a number, as a function of the pixels. A family's `explained` returns it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from research.util.errors import UserError, nearest


class Target(NamedTuple):
    """A number of a prediction, and the pictures that it is explained for.

    score        pure: (variables, f[B, ..., Y, X, C]) -> f32[B], whose rows are independent
    image        f32[B, ..., Y, X, C] in 0..1; a clip has an axis of frames before Y
    quantity     what the number is, in a word or two: logit
    facts        lines about it
    names        a name for each map, of rows and of frames
    features     a regular expression of the paths of those layers that Grad-CAM may read: not of one whose output is the answer
    transformer  the model, if it mixes patches by attention alone, so that a rollout tells where they come from
    """

    score: Callable[[Any, jax.Array], jax.Array]
    image: np.ndarray
    quantity: str
    facts: Sequence[str]
    names: Sequence[str]
    features: str = ""
    transformer: nn.Module | None = None


def class_logit(
    logits: Callable[[Any, jax.Array], jax.Array], variables: Any, image: np.ndarray, classes: Sequence[str], name: str | None,
    names: Sequence[str] = (), transformer: nn.Module | None = None,
) -> Target:  # fmt: skip
    """The logit of the class `name` of one picture; None: the top-1. `logits` is (variables, f[1, ..., Y, X, C]) -> f[1, N]."""
    p = np.asarray(jax.nn.softmax(jax.jit(logits)(variables, image)))[0]
    k = int(p.argmax()) if name is None else class_number(classes, name)
    top = "" if name is None else f"; top-1 {classes[p.argmax()]}"
    fact = f"{classes[k]}: probability {p[k]:.4f}{top}"
    return Target(lambda v, x: logits(v, x)[:, k], image, "logit", [fact], names or [fact], transformer=transformer)


def class_number(classes: Sequence[str], name: str) -> int:
    """Raises UserError if there is no such class."""
    if name not in classes:
        raise UserError(f"--class={name}{nearest(name, classes)}")
    return list(classes).index(name)


def number(option: str, value: int, low: int, high: int) -> int:
    """`value`. Raises UserError if it is not in `low`..`high`."""
    if not low <= value <= high:
        raise UserError(f"--{option}={value}: from {low} to {high}")
    return value


def pixel(at: tuple[int, int], shape: Sequence[int]) -> tuple[int, int]:
    """`at`, the row and the column of a pixel. Raises UserError if it lies outside of `shape` (Y, X)."""
    if not all(0 <= place < side for place, side in zip(at, shape, strict=True)):
        raise UserError(f"--at={at[0]},{at[1]}: outside of {shape[0]} x {shape[1]} pixels, which are numbered from 0,0")
    return at
