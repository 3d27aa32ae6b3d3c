"""Exact match of lines with reference lines."""

from collections.abc import Sequence

from research.util.errors import UserError


def check_pairs(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raises UserError if the counts differ or there are no lines; `name` is the metric's, for the message."""
    if len(hypotheses) != len(references):
        raise UserError(
            f"{name}: {len(hypotheses):,} hypotheses and {len(references):,} references; give one reference a hypothesis"
        )
    if not hypotheses:
        raise UserError(f"{name}: there is no line to score")


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Share of lines, 0..1, whose words equal the reference's. Raises as `check_pairs`."""
    check_pairs("exact match", hypotheses, references)
    return sum(a.split() == b.split() for a, b in zip(hypotheses, references, strict=True)) / len(hypotheses)
