"""Slow reading by several threads, in order: `OrderedMap(function)(items)` equals `[function(x) for x in items]`.

Pillow and the file system release Python's global lock while they read, decode and scale, so threads gain where an item
takes long. Where it takes little, as a 32 x 32 PNG does, they spend their time waiting for that lock: the time of the
first items decides. Neither that nor the number of threads changes a value, because `function` is pure.

The threads are the process's: they start when first needed, serve every source, and end with the process.
"""

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16  # about as many as the part of a JPEG's decoding that holds the global lock can keep busy
WORTHWHILE = 3e-4  # seconds an item; below it, threads wait for the global lock for longer than they gain
TRIALS = 5  # items timed, of which the median counts: the first may import a codec
LARGEST_PIECE = 16  # items a thread takes at a time: what an interrupt waits for

_chosen: int | None = None  # by `threads`


def count() -> int:
    """How many threads work: the cores this process may use, at most `MAX_THREADS`."""
    if _chosen is not None:
        return _chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Inside, `number` threads work. For measurements and tests; the values are the same with any number."""
    global _chosen
    before, _chosen = _chosen, number
    try:
        yield
    finally:
        _chosen = before


class OrderedMap(Generic[T, R]):
    """A pure function over the items of a sequence: the results in the items' order.

    Where an item fails, raises what `function` raised for the first such item, as a loop would. `function` may not
    itself call an `OrderedMap`: its thread would wait for a free one.
    """

    def __init__(self, function: Callable[[T], R]):
        self._function = function
        self._seconds: list[float] = []  # of single items, until there are `TRIALS`

    def __call__(self, items: Sequence[T]) -> list[R]:
        tried = max(0, min(TRIALS - len(self._seconds), len(items)))
        results = [self._timed(item) for item in items[:tried]]
        rest = items[tried:]
        if not self._worthwhile() or count() == 1 or len(rest) < 2:
            return results + [self._function(item) for item in rest]
        size = min(LARGEST_PIECE, math.ceil(len(rest) / (4 * count())))
        pieces = [rest[i : i + size] for i in range(0, len(rest), size)]
        pool, futures = _executor(os.getpid(), count()), []
        try:
            for piece in pieces:
                futures.append(pool.submit(self._piece, piece))
            for future in futures:
                results += future.result()
        finally:  # an interrupt may come while they are handed over: what has not begun is not waited for
            for future in futures:
                future.cancel()
        return results

    def _timed(self, item: T) -> R:
        start = time.perf_counter()
        result = self._function(item)
        self._seconds.append(time.perf_counter() - start)
        return result

    def _worthwhile(self) -> bool:
        return len(self._seconds) >= TRIALS and median(self._seconds) >= WORTHWHILE

    def _piece(self, items: Sequence[T]) -> list[R]:
        return [self._function(item) for item in items]


@functools.cache
def _executor(process: int, number: int) -> ThreadPoolExecutor:
    """The pool of a process: a forked child has none of its parent's threads, and gets its own."""
    del process
    return ThreadPoolExecutor(number, thread_name_prefix="read")
