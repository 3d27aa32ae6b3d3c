"""Answers that are kept for requests which come again, and whose answer is a function of the request."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Answers(Generic[T]):
    """The answers, as their pieces, that were asked for last: `most` pieces in all. One thread uses it.

    >>> answers = Answers(3)
    >>> for key in "abc":
    ...     answers.put(key, [f"the answer to {key}"] * 2)
    >>> answers.get("b"), answers.get("c"), answers.hits
    (None, ['the answer to c', 'the answer to c'], 1)
    """

    def __init__(self, most: int):
        self._most, self._kept, self._size = most, OrderedDict[Hashable, list[T]](), 0
        self.hits = 0  # answers that were there

    def get(self, key: Hashable) -> Sequence[T] | None:
        if (found := self._kept.get(key)) is None:
            return None
        self._kept.move_to_end(key)
        self.hits += 1
        return found

    def put(self, key: Hashable, pieces: list[T]) -> None:
        self._size += len(pieces) - len(self._kept.pop(key, ()))
        self._kept[key] = pieces
        while self._size > self._most:
            self._size -= len(self._kept.popitem(last=False)[1])
