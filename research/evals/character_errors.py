"""Character error rate: how many characters would have to be changed to make one text of another."""

from collections.abc import Sequence

from research.evals.exact_match import check_pairs


def edit_distance(a: Sequence, b: Sequence) -> int:
    """The fewest insertions, deletions and substitutions that make `b` of `a` (Levenshtein 1966; Wagner and Fischer 1974).

    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(before + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def character_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Edits per character of the references, 0 and above; empty hypotheses have 1. Raises as `check_pairs`.

    If the references have no character, it is the number of edits.

    >>> character_error_rate(["kitten"], ["sitting"])  # 3 of 7
    0.42857142857142855
    """
    check_pairs("character error rate", hypotheses, references)
    edits = sum(map(edit_distance, hypotheses, references))
    return edits / max(1, sum(map(len, references)))
