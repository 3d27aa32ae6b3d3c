"""Where launches begin, by hand and against a loop over the steps."""

import numpy as np
import pytest

from research.core.launches import bounds


@pytest.mark.parametrize(
    "first, stop, size, cadences, expected",
    [
        (0, 8, 4, [], [0, 4, 8]),
        (0, 9, 4, [0], [0, 4, 8, 9]),  # a cadence of 0 is never due
        (0, 12, 4, [6], [0, 4, 6, 10, 12]),  # counted anew from where something was due
        (0, 12, 5, [4, 6], [0, 4, 6, 8, 12]),
        (10, 12, 4, [6], [10, 12]),  # resumed where a launch ended: the same launches
        (7, 12, 4, [6], [7, 10, 12]),  # resumed within one: its rest, then the same launches
        (0, 3, 100, [7], [0, 3]),
        (5, 5, 4, [6], []),
        (6, 5, 4, [6], []),
    ],
)
def test_by_hand(first, stop, size, cadences, expected):
    assert bounds(first, stop, size, cadences) == expected


def test_cuts_move_no_other_launch():
    assert bounds(0, 12, 4, [6], [5, 7, 12, 40]) == [0, 4, 5, 6, 7, 10, 12]


def test_against_a_loop_over_the_steps():
    """A launch begins where something is due, and `size` steps after the last one that began on its own account."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, length, size, *cadences = (int(x) for x in rng.integers((0, 1, 1, 0, 1), (30, 60, 12, 9, 20)))
        stop, expected, since = first + length, [], 0
        for step in range(stop):
            since = 0 if any(c and step % c == 0 for c in cadences) else since + 1
            if step >= first and (step == first or since % size == 0):
                expected.append(step)
        assert bounds(first, stop, size, cadences) == [*expected, stop]


def test_few_lengths_to_compile():
    """469 steps an epoch, evaluated each, saved each fifth: one length, and one for what is left of an epoch."""
    lengths = np.diff(bounds(0, 300 * 469, 50, [469, 5 * 469]))
    assert set(lengths) == {50, 19}
