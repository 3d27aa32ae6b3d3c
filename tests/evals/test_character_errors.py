"""Edit distance against its recursive definition; the rate by hand."""

import functools
import random

import pytest

from research.evals.character_errors import character_error_rate, edit_distance
from research.util.errors import UserError


def by_definition(a, b):
    """Wagner and Fischer's recursion, from the front."""

    @functools.cache
    def rest(i, j):
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        if a[i] == b[j]:
            return rest(i + 1, j + 1)
        return 1 + min(rest(i + 1, j), rest(i, j + 1), rest(i + 1, j + 1))

    return rest(0, 0)


def test_the_distance_is_that_of_its_definition():
    rng = random.Random(0)
    for _ in range(200):
        a, b = ("".join(rng.choices("abc", k=rng.randrange(9))) for _ in range(2))
        assert edit_distance(a, b) == by_definition(a, b)
    assert edit_distance("intention", "execution") == 5  # Jurafsky and Martin, Speech and Language Processing, 2.5


def test_the_rate_is_of_all_characters():
    """One substitution and two deletions, of 3 + 2 characters."""
    assert character_error_rate(["cut", ""], ["cat", "is"]) == pytest.approx(3 / 5)
    assert character_error_rate(["a"], [""]) == 1
    with pytest.raises(UserError, match="1 hypotheses and 2 references"):
        character_error_rate(["a"], ["a", "b"])
