"""What the server tells the monitor: records of requests and feedback on them, which a thread turns into rows and stores."""

import contextlib
import itertools
import logging
import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from research.serving.monitor import capture, redaction, signals, store
from research.serving.monitor.record import Record, Repeated, Rows, Text
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Model, Request
from research.serving.servable import Servable

WAITING = 256  # records in memory, at most: with the inputs that they have
TOGETHER = 200  # records a commit
EVERY = 60.0  # seconds from one reading of the memory to the next
EXPIRE = 3600.0  # seconds from one deletion of what was captured long enough ago to the next
DAY = 86400.0
log = logging.getLogger("almanac.serve")


class Observer:
    """`put` never waits: a record that finds the queue full is dropped, and counted. One thread measures and writes.

    With `capture_days`, what requests held and were answered is kept for so many days.
    """

    def __init__(self, folder: Path, waiting: int = WAITING, capture_days: float | None = None):
        """Raises UserError if nothing can be stored in `folder`."""
        with contextlib.closing(Store(folder)) as made:  # the thread opens its own, since SQLite binds one to a thread
            made.check_keys()
        self._folder, self._server = folder, f"{socket.gethostname()}-{os.getpid()}"
        self._queue: queue.Queue[Record | Feedback | None] = queue.Queue(waiting)
        self._held: dict[str, list[Sequence]] = {}  # of records in the queue: id -> of each row its classes
        self._days = capture_days
        self._layouts: dict[tuple[str, str], dict[str, int]] = {}
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    @property
    def captures(self) -> bool:
        return self._days is not None

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        """Hands a record over, before the last of its answer is sent. Any thread may call it."""
        held = self._held.setdefault(record.id, rows := record.answered() if record.status == 200 else [])
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
            if held is rows:
                del self._held[record.id]

    def classes_of(self, id: str, row: int) -> list[str] | None:
        """The classes that a row could have had, none but a classifier's; None if no such row was answered.

        It may read a file. A row is held until it is in the store, so that an answered one is always in one of them.
        """
        if (rows := self._held.get(id)) is not None:
            return [str(name) for name in rows[row]] if row < len(rows) else None
        return store.classes_of(self._folder, id, row)

    def put_feedback(self, feedback: Feedback) -> bool:
        """Hands feedback over, to be written after the record of its row -> False if the queue is full."""
        try:
            self._queue.put_nowait(feedback)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Writes what is waiting, and ends the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        store, due, expires, ends = Store(self._folder), 0.0, 0.0, False
        while not ends:
            found = self._next()
            ends = None in found
            records = [each for each in found if isinstance(each, Record)]
            try:
                self._write(store, records)
                store.add_feedback(_redacted(each) for each in found if isinstance(each, Feedback))
                if (now := time.monotonic()) >= due or ends:
                    due = now + EVERY
                    store.add_server(self._server, time.time(), _memory(), self.dropped)
                if now >= expires:
                    expires = now + EXPIRE
                    store.expire(time.time())
            except Exception as error:  # the server goes on, with or without its monitor
                self.dropped += len(records)
                log.error("the monitor lost %d requests: %s", len(records), type(error).__name__)
            for record in records:
                self._held.pop(record.id, None)
        store.close()

    def _next(self) -> list[Record | Feedback | None]:
        """Waits for records: all that are there, at most TOGETHER; none after EVERY seconds without any."""
        records: list[Record | Feedback | None] = []
        with contextlib.suppress(queue.Empty):
            records.append(self._queue.get(timeout=EVERY))
            while len(records) < TOGETHER:
                records.append(self._queue.get_nowait())
        return records

    def _write(self, store: Store, records: list[Record]) -> None:
        now = time.time()
        requests = [
            Request(each.id, now, each.route, each.status, each.seconds, len(self._held.get(each.id, ())))
            for each in records
        ]
        answers = [answer for record in records for answer in self._answers(store, record, now)]
        until = now + DAY * (self._days or 0)
        store.add(requests, answers, [each for record in records for each in capture.of_record(record, now, until)])

    def _answers(self, store: Store, record: Record, now: float) -> Iterator[Answer]:
        numbers = itertools.count()
        for part in record.parts:
            if isinstance(part, Text):
                yield _of_text(part, record.id, next(numbers), now)
            elif isinstance(part, Repeated):
                next(numbers)
            else:
                yield from self._of_rows(store, part, record.id, numbers, now)

    def _of_rows(self, store: Store, part: Rows, id: str, numbers: Iterator[int], now: float) -> Iterator[Answer]:
        if part.outputs is None:  # refused or out of time: the request's status says so
            return
        servable, timing, classes = part.servable, part.timing, part.classes
        found = signals.of_inputs(servable.predictor.codec, part.inputs) | signals.of_outputs(part.outputs)
        self._introduce(store, servable, {name: found[name].shape[1] for name in sorted(found)}, classes)
        for i in range(len(next(iter(part.inputs.values())))):
            confidence = prediction = None
            if "confidence" in found:
                confidence, choice = float(found["confidence"][i, 0]), int(part.outputs["probabilities"][i].argmax())
                prediction = str(classes[choice]) if choice < len(classes) else str(choice)
            values = [found[name][i] for name in sorted(found)]
            yield Answer(
                id, next(numbers), now, servable.name, servable.version,
                queue=_between(timing.came, timing.began), prefill=_between(timing.began, timing.first), fill=timing.fill,
                confidence=confidence, prediction=prediction,
                signals=np.concatenate(values).astype("<f4").tobytes() if values else None,
            )  # fmt: skip

    def _introduce(self, store: Store, servable: Servable, layout: dict[str, int], classes: Sequence) -> None:
        key = (servable.name, servable.version)
        if key not in self._layouts:
            self._layouts[key] = layout
            reference = None if servable.reference is None else servable.reference.to_bytes()
            store.add_model(Model(*key, layout, reference, [str(name) for name in classes]))


def _of_text(part: Text, id: str, row: int, now: float) -> Answer:
    timing = part.timing
    return Answer(
        id, row, now, part.servable.name, part.servable.version,
        queue=_between(timing.came, timing.began), prefill=_between(timing.began, timing.first),
        decode=_between(timing.first, timing.ended), prompt=part.prompt, generated=len(part.logprobs),
        confidence=float(np.exp(np.mean(part.logprobs))) if part.logprobs else None,
    )  # fmt: skip


def _redacted(feedback: Feedback) -> Feedback:
    return feedback._replace(correction=feedback.correction and redaction.redact(feedback.correction))


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _memory() -> int:
    """Bytes of this process in memory; where the system does not tell, the most there have been."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
