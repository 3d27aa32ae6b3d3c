"""Spans by hand; tests/evals/test_entities.py has them against seqeval."""

import pytest

from research.data.text import label_spans


@pytest.mark.parametrize(
    "labels, want",
    [
        ("O", []),
        ("I-A I-A", [("A", 0, 1)]),
        ("B-A I-B O", [("A", 0, 0), ("B", 1, 1)]),
        ("B-A E-A E-A S-A", [("A", 0, 1), ("A", 2, 2), ("A", 3, 3)]),
        ("B M E S", [("", 0, 2), ("", 3, 3)]),
        ("B-X-Y I-X-Y", [("X-Y", 0, 1)]),
    ],
)
def test_spans(labels, want):
    assert label_spans.spans(labels.split()) == want
