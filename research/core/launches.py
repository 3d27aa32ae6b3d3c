"""How the steps of a run are divided into launches of several."""

from collections.abc import Sequence


def bounds(first: int, stop: int, size: int, cadences: Sequence[int], cuts: Sequence[int] = ()) -> list[int]:
    """The steps at which launches begin, from `first`, and `stop`: at most `size` steps lie between two neighbours.

    Where something is due (a multiple of one of the `cadences`; 0 is never) a launch ends, and the next are counted from
    there. So a run that resumes at the end of a launch has the launches that it would have had, and there are few lengths
    to compile. A launch ends before each of `cuts`, too, which moves no other one. Empty if `first` is not before `stop`.

    >>> bounds(0, 10, 4, [6])
    [0, 4, 6, 10]
    """
    every = [cadence for cadence in cadences if cadence > 0]
    begin = max((first // cadence * cadence for cadence in every), default=0)
    starts = {step for step in cuts if first < step < stop}
    while begin < stop:
        end = min([stop, *(begin // cadence * cadence + cadence for cadence in every)])
        starts.update(step for step in range(begin, end, size) if step >= first)
        begin = end
    return sorted({first, *starts, stop}) if first < stop else []
