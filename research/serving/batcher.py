"""Dynamic batching: rows that come at about the same time are predicted together."""

import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from research.serving.jobs import Busy, Closed, Timing
from research.serving.programs import Arrays, Programs
from research.util.errors import UserError


class _Item(NamedTuple):
    inputs: Arrays
    rows: int
    timing: Timing
    answer: Future


class Batcher:
    """A thread that gathers rows for `delay` seconds at most, or until the largest batch is full, and predicts them at once.

    Rows share a batch if their padded shapes are equal. An answer is the outputs of its own rows; where a batch fails, its
    rows are predicted one request after another, so that only the request that fails hears of it.
    """

    def __init__(self, programs: Programs, delay: float = 0.002, queue: int = 256):
        """`queue` is the most requests that wait. Raises UserError if a number is out of range."""
        if not 0 <= delay <= 10 or queue < 1:
            raise UserError(f"delay={delay}, queue={queue}: want 0 to 10 s, and at least 1 request")
        self.programs, self._delay, self._most_waiting = programs, delay, queue
        self._groups: dict[tuple, list[_Item]] = {}
        self._changed, self._accepts = threading.Condition(), True
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread serves."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(map(len, self._groups.values()))

    def start(self) -> None:
        """Compiles the programs, and then serves in a thread."""
        self.programs.compile()
        self._thread.start()

    def close(self) -> None:
        """Takes no more requests, answers those that it has and ends the thread."""
        with self._changed:
            self._accepts = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, inputs: Arrays, timing: Timing | None = None) -> Future:
        """Rows {name: [rows, ...]} -> a future of their outputs {name: [rows, ...]}; `timing` is told of their batch.

        Raises UserError if they are not the predictor's, Busy if the queue is full, Closed after `close`.
        """
        item = _Item(inputs, self.programs.check(inputs), timing or Timing(), Future())
        with self._changed:
            if not self._accepts:
                raise Closed
            if self.waiting >= self._most_waiting:
                raise Busy
            self._groups.setdefault(self.programs.group(inputs), []).append(item)
            self._changed.notify()
        return item.answer

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._attempt(batch)

    def _attempt(self, batch: list[_Item]) -> None:
        try:
            self._answer(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for item in batch:
                self._attempt([item])

    def _next(self) -> list[_Item] | None:
        """Waits for a batch: of the group whose first row has waited longest. None after `close` when all are answered."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._groups or not self._accepts)
                if not self._groups:
                    return None
                group, items = min(self._groups.items(), key=lambda pair: pair[1][0].timing.came)
                left = items[0].timing.came + self._delay - time.monotonic()
                if sum(item.rows for item in items) >= self.programs.max_batch or left <= 0 or not self._accepts:
                    return self._take(group)
                self._changed.wait(left)

    def _take(self, group: tuple) -> list[_Item]:
        items, rows, count = self._groups.pop(group), 0, 0
        for item in items:
            rows += item.rows
            if rows > self.programs.max_batch:
                break
            count += 1
        if items[count:]:
            self._groups[group] = items[count:]
        return [item for item in items[:count] if item.answer.set_running_or_notify_cancel()]

    def _answer(self, batch: list[_Item]) -> None:
        if not batch:  # all were cancelled
            return
        inputs = {name: joined([item.inputs[name] for item in batch]) for name in batch[0].inputs}
        began, fill = time.monotonic(), sum(item.rows for item in batch) / self.programs.max_batch
        outputs, first = self.programs(inputs), 0
        for item in batch:
            item.timing.began, item.timing.first, item.timing.fill = began, time.monotonic(), fill
            own = {name: y[first : first + item.rows] for name, y in outputs.items()}
            item.answer.set_result(self.programs.cut(own, item.inputs))
            first += item.rows


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays one after another along their rows, their other axes padded with zeros to the largest."""
    sizes = [max(x.shape[i] for x in arrays) for i in range(1, arrays[0].ndim)]
    pads = lambda x: [(0, 0), *((0, size - n) for size, n in zip(sizes, x.shape[1:], strict=True))]  # noqa: E731
    return np.concatenate([np.pad(x, pads(x)) for x in arrays])
