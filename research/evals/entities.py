"""Spans in sequences of labels, found and scored as seqeval 1.2.2 does in its default mode, and conlleval before it.

A label is O, or B, I, E or S and the type of a span, as B-PER; without types, B, I, E or S alone. M means I. Labels that break
their scheme are spans, too: one that begins with I-PER, or changes its type, begins there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int

from research.core.arrays import Array
from research.nn.crf import previous_inside

OUTSIDE = "O"
Span = tuple[str, int, int]  # type, first position, last position


def prefix_and_type(label: str) -> tuple[str, str]:
    """
    >>> prefix_and_type("B-PER"), prefix_and_type("M"), prefix_and_type("O")
    (('B', 'PER'), ('I', ''), ('O', ''))
    """
    prefix = "I" if label[:1] == "M" else label[:1]
    return prefix, label[1:].partition("-")[2] or label[1:]


def starts(before: str, label: str) -> bool:
    """Whether a span begins with `label` after the label `before`."""
    (last, last_type), (prefix, kind) = prefix_and_type(before), prefix_and_type(label)
    if prefix == OUTSIDE:
        return False
    return prefix in "BS" or last in "OES" or last_type != kind


def ends(label: str, after: str) -> bool:
    """Whether a span ends with `label` before the label `after`."""
    (prefix, kind), (following, next_type) = prefix_and_type(label), prefix_and_type(after)
    if prefix == OUTSIDE:
        return False
    return prefix in "ES" or following in "OBS" or kind != next_type


def spans(labels: Sequence[str]) -> list[Span]:
    """The spans of one sequence, in order.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3), ('LOC', 4, 4)]
    """
    found, first = [], 0
    padded = [OUTSIDE, *labels, OUTSIDE]
    for i, label in enumerate(labels):
        if starts(padded[i], label):
            first = i
        if ends(label, padded[i + 2]):
            found.append((prefix_and_type(label)[1], first, i))
    return found


def score(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Sequences of labels -> {"precision", "recall", "f1"} of their spans, over all types; 0 where nothing is divided by nothing."""
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

    @classmethod
    def of(cls, classes: Sequence[str]) -> "Tables":
        names = [*classes, OUTSIDE]
        kinds = [prefix_and_type(name)[1] for name in names]
        pairs = [np.array([[rule(a, b) for b in names] for a in names]) for rule in (starts, ends)]
        return cls(*pairs, np.array([kinds.index(kind) for kind in kinds]))


def counts(
    labels: Int[Array, "B T"], predicted: Int[Array, "B T"], inside: Bool[Array, "B T"], tables: Tables
) -> tuple[Float32[Array, ""], Float32[Array, ""], Float32[Array, ""]]:
    """-> the numbers of spans that are in both, predicted and true. Each row is a sequence of its positions `inside`."""
    T, none = labels.shape[1], len(tables.types) - 1
    before = previous_inside(inside)[0]
    after = T - 1 - previous_inside(inside[:, ::-1])[0][:, ::-1]  # T where there is none

    def neighbour(values: Array, at: Array) -> Array:
        near = jnp.take_along_axis(values, jnp.clip(at, 0, T - 1), 1)
        return jnp.where((at >= 0) & (at < T), near, none)

    def found(values: Array) -> tuple[Array, Array, Array]:
        """Where a span begins, and from each position on where the next one ends; the types."""
        begin = inside & jnp.asarray(tables.starts)[neighbour(values, before), values]
        end = inside & jnp.asarray(tables.ends)[values, neighbour(values, after)]
        last = jnp.where(end, jnp.arange(T), T)
        return begin, jnp.flip(jnp.minimum.accumulate(jnp.flip(last, 1), axis=1), 1), jnp.asarray(tables.types)[values]

    (begin, last, kind), (other, other_last, other_kind) = found(labels), found(predicted)
    both = begin & other & (last == other_last) & (kind == other_kind)
    return tuple(x.sum(dtype=jnp.float32) for x in (both, other, begin))  # type: ignore[return-value]
