"""An ordered map over several threads, for slow reading: `OrderedMap(function)(items)` equals `[function(x) for x in items]`.

Pillow and the file system release Python's global lock (GIL) while they read, decode and scale, so threads are faster if
an item is slow. If it is fast, as a 32 x 32 PNG is, threads mostly wait for the GIL. The time of the first items decides
whether threads are used. Because `function` is pure, neither this nor the number of threads changes a value.

One pool per process: its threads start on first use, serve all sources, and end with the process.
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

MAX_THREADS = 16  # more do not help, because a part of JPEG decoding holds the GIL
WORTHWHILE = 3e-4  # seconds per item; below it, waiting for the GIL costs more than threads gain
TRIALS = 5  # items timed; the median is used, because the first may import a codec
LARGEST_PIECE = 16  # items per task of a thread, which an interrupt waits for

_override: int | None = None  # by `threads`


def count() -> int:
    """The number of threads: the cores that this process may use, at most `MAX_THREADS`."""
    if _override is not None:
        return _override
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """A context with `number` threads, for measurements and tests; the number does not change any value."""
    global _override
    before, _override = _override, number
    try:
        yield
    finally:
        _override = before


class OrderedMap(Generic[T, R]):
    """Maps a pure function over a sequence; the results are in the order of the items.

    Raises the exception of the first item that fails, as a loop would. `function` must not call an `OrderedMap`, because its
    thread would wait for a free thread.

    >>> OrderedMap(abs)([3, -1, -2])
    [3, 1, 2]
    """

    def __init__(self, function: Callable[[T], R]):
        self._function = function
        self._seconds: list[float] = []  # of single items, until there are `TRIALS`

    def __call__(self, items: Sequence[T]) -> list[R]:
        timed = max(0, min(TRIALS - len(self._seconds), len(items)))
        results = [self._timed(item) for item in items[:timed]]
        remaining = items[timed:]
        if not self._worthwhile() or count() == 1 or len(remaining) < 2:
            return results + [self._function(item) for item in remaining]
        size = min(LARGEST_PIECE, math.ceil(len(remaining) / (4 * count())))
        pieces = [remaining[i : i + size] for i in range(0, len(remaining), size)]
        pool, futures = _executor(os.getpid(), count()), []
        try:
            for piece in pieces:
                futures.append(pool.submit(self._piece, piece))
            for future in futures:
                results += future.result()
        finally:  # on an interrupt, even during submission, tasks that have not started are cancelled
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
    """The pool of a process; a forked child does not inherit its parent's threads and gets a pool of its own."""
    del process
    return ThreadPoolExecutor(number, thread_name_prefix="read")
