"""Models one after another: rows stream through stages, each a thread that hands on what it makes, in order.

A stage computes the rows that wait for it together. The first row is through before the last has come, and a later stage works
on earlier rows while the stages before it work on later ones. Between two stages at most HANDOVER rows wait.
"""

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from research.serving.stage import MOST_ROWS, Output, Stage
from research.util.errors import UserError

HANDOVER = MOST_ROWS  # rows between two stages, at most
PASSES_AS = {"class": ("class", "text")}  # a class is a name, which is a text; any other kind is itself alone


@dataclasses.dataclass
class Row:
    """A value on its way.

    name      of where it comes from, for people
    value     what the first stage takes, or the error of reading it
    truth     {stage's index: its true output}, if it is known
    outputs   of each stage that it passed; `seconds`, the time of each
    error     why the stage of index `len(seconds)` made nothing of it; empty: it passes
    on_truth  {stage's index: what it makes of the true output of the one before}; None: nothing
    """

    name: str
    value: Any
    truth: Mapping[int, Any] = dataclasses.field(default_factory=dict)
    outputs: list[Output] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: str = ""
    on_truth: dict[int, Output | None] = dataclasses.field(default_factory=dict)


def check(stages: Sequence[Stage]) -> None:
    """Raises UserError if a stage does not take what the one before it gives, or does not say what it takes."""
    for number, stage in enumerate(stages, 1):
        if not stage.takes:
            raise UserError(
                f"stage {number} ({stage.name}) does not say what it takes: no chain has a model of its family"
            )
    for number, (one, other) in enumerate(zip(stages, stages[1:], strict=False), 1):
        if other.takes not in PASSES_AS.get(one.gives, (one.gives,)):
            raise UserError(
                f"stage {number + 1} ({other.name}) takes: {other.takes}; stage {number} ({one.name}) gives: {one.gives}"
            )


def run(stages: Sequence[Stage], rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as they come out of the last stage, in their order. What `rows` raises, or a stage, is raised here."""
    queues: list[queue.Queue] = [queue.Queue(HANDOVER) for _ in range(len(stages) + 1)]
    works = [_Work(queues[0], _feed, rows), *(
        _Work(sink, _compute, i, stage, source)
        for i, (stage, source, sink) in enumerate(zip(stages, queues, queues[1:], strict=False))
    )]  # fmt: skip
    for work in works:
        work.start()
    try:
        while not isinstance(item := queues[-1].get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        for work in works:
            work.is_left = True


@dataclasses.dataclass
class _End:
    """The end of the rows, or the error that ended them."""

    error: BaseException | None = None


class _Left(Exception):
    """Nobody takes the rows any more."""


class _Work(threading.Thread):
    """Calls `function(put, *arguments)`, whose rows go to `sink`, and then their end."""

    def __init__(self, sink: queue.Queue, function: Any, *arguments: Any):
        super().__init__(name=function.__name__, daemon=True)  # reading standard input cannot be interrupted
        self._sink, self._function, self._arguments, self.is_left = sink, function, arguments, False

    def run(self) -> None:
        end = _End()
        try:
            self._function(self._put, *self._arguments)
        except BaseException as error:
            end = _End(error)
        with contextlib.suppress(_Left):
            self._put(end)

    def _put(self, item: Any) -> None:
        while True:
            try:
                return self._sink.put(item, timeout=0.1)
            except queue.Full:
                if self.is_left:
                    raise _Left from None


def _feed(put: Any, rows: Iterable[Row]) -> None:
    for row in rows:
        put(row)


def _compute(put: Any, index: int, stage: Stage, source: queue.Queue) -> None:
    end = None
    while end is None:
        rows, end = _waiting(source)
        apply(stage, index, rows)
        for row in rows:
            put(row)
    if end.error is not None:
        raise end.error


def _waiting(source: queue.Queue) -> tuple[list[Row], _End | None]:
    """Waits for a row -> it and those behind it, at most MOST_ROWS, and the end if it has come."""
    rows, item = list[Row](), source.get()
    while not isinstance(item, _End):
        rows.append(item)
        if len(rows) == MOST_ROWS:
            return rows, None
        try:
            item = source.get_nowait()
        except queue.Empty:
            return rows, None
    return rows, item


def apply(stage: Stage, index: int, rows: Sequence[Row]) -> None:
    """Computes one stage of rows, and what it makes of the true output of the stage before, where that is known."""
    for row in rows:
        if isinstance(row.value, UserError) and not row.error:
            row.error = str(row.value)
    passing = [row for row in rows if not row.error]
    began = time.perf_counter()
    outputs = stage([row.value for row in passing])
    seconds = (time.perf_counter() - began) / max(1, len(passing))
    for row, output in zip(passing, outputs, strict=True):
        if isinstance(output, UserError):
            row.error = str(output)
        else:
            row.value = output.value
            row.outputs.append(output)
            row.seconds.append(seconds)
    known = [row for row in rows if index - 1 in row.truth]
    for row, output in zip(known, stage([row.truth[index - 1] for row in known]), strict=True):
        row.on_truth[index] = None if isinstance(output, UserError) else output
