"""What the server tells the monitor: records of requests, which a thread turns into numbers and stores."""

import contextlib
import itertools
import logging
import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from research.serving.monitor import signals
from research.serving.monitor.record import Record, Rows, Text
from research.serving.monitor.store import Answer, Model, Request, Store
from research.serving.servable import Servable

WAITING = 256  # records in memory, at most: with the inputs that they have
TOGETHER = 200  # records a commit
EVERY = 60.0  # seconds from one reading of the memory to the next
log = logging.getLogger("almanac.serve")


class Observer:
    """`put` never waits: a record that finds the queue full is dropped, and counted. One thread measures and writes."""

    def __init__(self, folder: Path, waiting: int = WAITING):
        """Raises UserError if nothing can be stored in `folder`."""
        Store(folder).close()  # the thread opens its own, since SQLite binds one to a thread
        self._folder, self._server = folder, f"{socket.gethostname()}-{os.getpid()}"
        self._queue: queue.Queue[Record | None] = queue.Queue(waiting)
        self._layouts: dict[tuple[str, str], dict[str, int]] = {}
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        """Hands a record over. Any thread may call it."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Writes what is waiting, and ends the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        store, due, ends = Store(self._folder), 0.0, False
        while not ends:
            records = self._next()
            ends = None in records
            known = [record for record in records if record is not None]
            try:
                self._write(store, known)
                if (now := time.monotonic()) >= due or ends:
                    due = now + EVERY
                    store.add_server(self._server, time.time(), _memory(), self.dropped)
            except Exception as error:  # the server goes on, with or without its monitor
                self.dropped += len(known)
                log.error("the monitor lost %d requests: %s", len(known), type(error).__name__)
        store.close()

    def _next(self) -> list[Record | None]:
        """Waits for records: all that are there, at most TOGETHER; none after EVERY seconds without any."""
        records: list[Record | None] = []
        with contextlib.suppress(queue.Empty):
            records.append(self._queue.get(timeout=EVERY))
            while len(records) < TOGETHER:
                records.append(self._queue.get_nowait())
        return records

    def _write(self, store: Store, records: list[Record]) -> None:
        now = time.time()
        requests = [Request(record.id, now, record.route, record.status, record.seconds) for record in records]
        answers = [answer for record in records for answer in self._answers(store, record, now)]
        store.add(requests, answers)

    def _answers(self, store: Store, record: Record, now: float) -> Iterator[Answer]:
        numbers = itertools.count()
        for part in record.parts:
            if isinstance(part, Text):
                yield _of_text(part, record.id, next(numbers), now)
            else:
                yield from self._of_rows(store, part, record.id, numbers, now)

    def _of_rows(self, store: Store, part: Rows, id: str, numbers: Iterator[int], now: float) -> Iterator[Answer]:
        if part.outputs is None:  # refused or out of time: the request's status says so
            return
        servable, timing, classes = part.servable, part.timing, _classes(part.servable)
        found = signals.of_inputs(servable.predictor.codec, part.inputs) | signals.of_outputs(part.outputs)
        self._introduce(store, servable, {name: found[name].shape[1] for name in sorted(found)})
        for i in range(len(next(iter(part.inputs.values())))):
            confidence = prediction = None
            if "confidence" in found:
                confidence, choice = float(found["confidence"][i, 0]), int(part.outputs["probabilities"][i].argmax())
                prediction = classes[choice] if choice < len(classes) else str(choice)
            values = [found[name][i] for name in sorted(found)]
            yield Answer(
                id, next(numbers), now, servable.name, servable.version,
                queue=_between(timing.came, timing.began), prefill=_between(timing.began, timing.first), fill=timing.fill,
                confidence=confidence, prediction=prediction,
                signals=np.concatenate(values).astype("<f4").tobytes() if values else None,
            )  # fmt: skip

    def _introduce(self, store: Store, servable: Servable, layout: dict[str, int]) -> None:
        key = (servable.name, servable.version)
        if key not in self._layouts:
            self._layouts[key] = layout
            reference = None if servable.reference is None else servable.reference.to_bytes()
            store.add_model(Model(*key, layout, reference))


def _of_text(part: Text, id: str, row: int, now: float) -> Answer:
    timing = part.timing
    return Answer(
        id, row, now, part.servable.name, part.servable.version,
        queue=_between(timing.came, timing.began), prefill=_between(timing.began, timing.first),
        decode=_between(timing.first, timing.ended), prompt=part.prompt, generated=len(part.logprobs),
        confidence=float(np.exp(np.mean(part.logprobs))) if part.logprobs else None,
    )  # fmt: skip


def _classes(servable: Servable) -> list[str]:
    return [str(name) for name in getattr(servable.predictor.codec, "classes", None) or ()]


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _memory() -> int:
    """Bytes of this process in memory; where the system does not tell, the most there have been."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
