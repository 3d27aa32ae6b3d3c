"""Precision, recall and F1 of the spans in sequences of labels, over all types, as seqeval has them by default.

What a span is, research/data/text/label_spans.py says.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int

from research.core.arrays import Array
from research.data.text.label_spans import OUTSIDE, ends, prefix_and_type, spans, starts
from research.nn.crf import previous_inside


def score(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Sequences of labels -> {"precision", "recall", "f1"} of their spans, over all types; 0 for 0 / 0."""
    correct = found = wanted = 0
    for labels, guesses in zip(true, predicted, strict=True):
        a, b = set(spans(labels)), set(spans(guesses))
        correct, found, wanted = correct + len(a & b), found + len(b), wanted + len(a)
    return {
        "precision": correct / found if found else 0.0,
        "recall": correct / wanted if wanted else 0.0,
        "f1": 2 * correct / (found + wanted) if found + wanted else 0.0,
    }


class Tables(NamedTuple):
    """`starts` and `ends` of each pair of N classes, as arrays; class N stands for the ends of a row."""

    starts: Bool[np.ndarray, "M M"]
    ends: Bool[np.ndarray, "M M"]
    types: Int[np.ndarray, " M"]


def tables(classes: Sequence[str]) -> Tables:
    """The `Tables` of N classes by their names."""
    names = [*classes, OUTSIDE]
    kinds = [prefix_and_type(name)[1] for name in names]
    begin, end = (np.array([[rule(a, b) for b in names] for a in names]) for rule in (starts, ends))
    return Tables(begin, end, np.array([kinds.index(kind) for kind in kinds]))


def counts(
    labels: Int[Array, "B T"], predicted: Int[Array, "B T"], inside: Bool[Array, "B T"], rules: Tables
) -> tuple[Float32[Array, ""], Float32[Array, ""], Float32[Array, ""]]:
    """-> the numbers of spans that are in both, predicted and true. Each row is a sequence of its positions `inside`."""
    T, none = labels.shape[1], len(rules.types) - 1
    before = previous_inside(inside)[0]
    after = T - 1 - previous_inside(inside[:, ::-1])[0][:, ::-1]  # T where there is none

    def neighbour(values: Array, at: Array) -> Array:
        near = jnp.take_along_axis(values, jnp.clip(at, 0, T - 1), 1)
        return jnp.where((at >= 0) & (at < T), near, none)

    def found(values: Array) -> tuple[Array, Array, Array]:
        """Where a span begins, and from each position on where the next one ends; the types."""
        begin = inside & jnp.asarray(rules.starts)[neighbour(values, before), values]
        end = inside & jnp.asarray(rules.ends)[values, neighbour(values, after)]
        last = jnp.where(end, jnp.arange(T), T)
        return begin, jnp.flip(jnp.minimum.accumulate(jnp.flip(last, 1), axis=1), 1), jnp.asarray(rules.types)[values]

    (begin, last, kind), (other, other_last, other_kind) = found(labels), found(predicted)
    both = begin & other & (last == other_last) & (kind == other_kind)
    return tuple(x.sum(dtype=jnp.float32) for x in (both, other, begin))  # type: ignore[return-value]
