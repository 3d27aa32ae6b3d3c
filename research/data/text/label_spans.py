"""Spans in a sequence of labels, as seqeval 1.2.2 finds them in its default mode, and conlleval before it.

A label is O, or B, I, E or S and the type of a span, as B-PER; without types, B, I, E or S alone. M means I. Labels that break
their scheme are spans, too: one that begins with I-PER, or changes its type, begins there.
"""

import functools
from collections.abc import Sequence

OUTSIDE = "O"
Span = tuple[str, int, int]  # type, first position, last position


def prefix_and_type(label: str) -> tuple[str, str]:
    """
    >>> prefix_and_type("B-PER"), prefix_and_type("M"), prefix_and_type("O")
    (('B', 'PER'), ('I', ''), ('O', ''))
    """
    prefix = "I" if label[:1] == "M" else label[:1]
    return prefix, label[1:].partition("-")[2] or label[1:]


@functools.cache
def starts(before: str, label: str) -> bool:
    """Whether a span begins with `label` after the label `before`."""
    (last, last_type), (prefix, kind) = prefix_and_type(before), prefix_and_type(label)
    if prefix == OUTSIDE:
        return False
    return prefix in "BS" or last in "OES" or last_type != kind


@functools.cache
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
