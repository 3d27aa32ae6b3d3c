"""What a data set needs of another source that it is evaluated on: `Dataset.eval_batches`."""

from collections.abc import Iterable, Sequence

import numpy as np

from research.util.errors import UserError, nearest


def choose_parts(present: Iterable[str], part: str | None) -> list[str]:
    """The parts of a source to evaluate on: the one named `part`; None: all. Raises UserError if it is not present.

    >>> choose_parts(["train", "test"], None), choose_parts(["train", "test"], "test")
    (['train', 'test'], ['test'])
    """
    known = list(present)
    if part is not None and part not in known:
        raise UserError(f"the set's part = {part!r}{nearest(str(part), known)}")
    return known if part is None else [part]


def class_numbers(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    """The number in `ours` of each class in `theirs`, i64[n]. Raises UserError for a class that is not in `ours`.

    >>> class_numbers(["b", "a"], ["a", "b", "c"]).tolist()
    [1, 0]
    """
    if missing := [name for name in theirs if name not in ours]:
        raise UserError(f"the set's class {missing[0]!r} is none that the model has{nearest(missing[0], ours)}")
    return np.array([list(ours).index(name) for name in theirs])
