"""Scores of lines against reference lines."""

from collections.abc import Sequence

from research.util.errors import UserError


def check_pairs(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """UserError where the counts differ, or there is no line."""
    if len(hypotheses) != len(references):
        raise UserError(
            f"{name}: {len(hypotheses):,} hypotheses and {len(references):,} references; give one reference a hypothesis"
        )
    if not hypotheses:
        raise UserError(f"{name}: there is no line to score")


def exact(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The share, 0..1, of lines whose words are the reference's."""
    check_pairs("exact match", hypotheses, references)
    return sum(a.split() == b.split() for a, b in zip(hypotheses, references, strict=True)) / len(hypotheses)
