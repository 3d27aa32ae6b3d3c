"""Runs the command line in a process that reports its phases, or signals itself at a step. Almanac's code is unchanged.

    python -m tools.dev.stress_cases.stress_child '{"phases": FD, "term": STEP, ...}' train NAME ...

All options may be left out:

    phases    writes a line to a pipe at each change of phase: "start", "step N", "evaluate", "save", "step" (again), "end"
    term      sends this process SIGTERM at a step;  pause: and sleeps there, in seconds
    batches   a file: a checksum of each row that was copied to a device
    times     a file: the times at which each step was called and ready, the seconds of logging, saving and waiting for batches
    bare      with `times`: every second block of this many steps is neither logged nor saved
"""

import atexit
import contextlib
import functools
import json
import os
import queue
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def main(argv: list[str]) -> int:
    text, *words = argv
    options = json.loads(text)
    report = _reporter(options.get("phases"))
    report("start")  # before JAX is imported, because a process may be killed then as well
    if "phases" in options:
        _report_phases(report)
    if "term" in options or "batches" in options:
        _at_each_step(options.get("term"), options.get("pause", 0.0), options.get("batches"))
    if "times" in options:
        Times(Path(options["times"]), options.get("bare"))
    from tools import cli

    return cli.main(words)


def _reporter(fd: int | None) -> Callable[[str], Any]:
    """A function that writes a line to the file descriptor, if there is one."""
    return lambda line: None if fd is None else os.write(fd, f"{line}\n".encode())


def _replace(owner: Any, name: str, make: Callable[[Callable], Callable]) -> None:
    """Replaces `owner.name` by `make(owner.name)`."""
    old = getattr(owner, name)
    setattr(owner, name, functools.wraps(old)(make(old)))


def _report_phases(report: Callable[[str], Any]) -> None:
    """Makes the methods of a run report the phases."""
    from research.run.checkpoint import Checkpoints
    from research.run.run import Run

    def around(word: str) -> Callable:
        def make(old: Callable) -> Callable:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                report(word)
                try:
                    return old(*args, **kwargs)
                finally:
                    report("step")

            return wrapped

        return make

    def loop(old: Callable) -> Callable:
        def wrapped(self: Any) -> Iterator:
            for batch in old(self):
                report(f"step {self.done - 1}")
                yield batch
            report("end")

        return wrapped

    _replace(Run, "batches", loop)
    _replace(Run, "measure", around("evaluate"))
    _replace(Checkpoints, "save", around("save"))


def _at_each_step(term: int | None, pause: float, batches: str | None) -> None:
    """Makes a run log its batches, and send SIGTERM at step `term`."""
    from research.run.run import Run

    def make(old: Callable) -> Callable:
        def wrapped(self: Any) -> Iterator:
            with open(batches or os.devnull, "w", encoding="utf-8") as file:
                for batch in old(self):
                    step = self.done - 1
                    if batches:
                        file.write(json.dumps({"step": step, "rows": rows(batch)}) + "\n")
                        file.flush()
                    if step == term:
                        os.kill(os.getpid(), signal.SIGTERM)
                        time.sleep(pause)
                    yield batch

        return wrapped

    _replace(Run, "batches", make)


def rows(batch: Any) -> dict[int, int]:
    """{row: CRC-32 of its values} for the rows of a global batch that are on this process's devices."""
    import numpy as np

    checksums: dict[int, int] = {}
    for name in sorted(batch):
        for shard in batch[name].addressable_shards:
            if shard.replica_id:  # another device's copy
                continue
            first = shard.index[0].start or 0
            for row, values in enumerate(np.asarray(shard.data), first):
                checksums[row] = zlib.crc32(values.tobytes(), checksums.get(row, 0))
    return checksums


def bare(done: int, block: int) -> bool:
    """Whether step `done` is neither logged nor saved: those of every second block are not.

    Blocks are shifted by half a block, so that a checkpoint is in the middle of its block and written before the block ends.

    >>> [bare(done, 4) for done in range(8)]
    [False, False, True, True, True, True, False, False]
    """
    return bool((done + block // 2) // block % 2)


class Times:
    """Measures times, and writes them at exit as JSON.

    called, returned, ready    for each step: when it was called, when the call returned, when its result was ready, in s
    log, save, batch           for each call: (steps called so far, seconds)
    """

    def __init__(self, path: Path, bare: int | None):
        from research.core.step import Step
        from research.data.pipeline import TrainBatches
        from research.run.run import Run

        self._path, self._bare = path, bare
        self._lists: dict[str, list] = {k: [] for k in ("called", "returned", "ready", "log", "save", "batch")}
        self._sent: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._watch, daemon=True).start()
        _replace(Step, "__call__", self._step)
        _replace(Run, "log", lambda old: self._part("log", old))
        _replace(Run, "save", lambda old: self._part("save", old))
        _replace(TrainBatches, "on_device", self._batches)
        _replace(Run, "finish", self._finish)
        atexit.register(self._write)

    def _watch(self) -> None:
        """Waits for each step's result, in a thread, so that the training loop does not wait."""
        while (value := self._sent.get()) is not None:
            value.block_until_ready()
            self._lists["ready"].append(time.perf_counter())

    def _step(self, old: Callable) -> Callable:
        def timed(step: Any, state: Any, batch: Any) -> Any:
            import jax

            self._lists["called"].append(time.perf_counter())
            state, metrics = old(step, state, batch)
            self._lists["returned"].append(time.perf_counter())
            self._sent.put(jax.tree.leaves(metrics)[0])
            return state, metrics

        return timed

    def _part(self, name: str, old: Callable) -> Callable:
        def timed(run: Any, *args: Any) -> Any:
            if self._bare and bare(run.done, self._bare) and run.done < run.num_steps:
                return args[0] if name == "save" else None
            with self._timed(name):
                return old(run, *args)

        return timed

    def _batches(self, old: Callable) -> Callable:
        def timed(*args: Any) -> Iterator:
            batches = old(*args)
            while True:
                with self._timed("batch"):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

        return timed

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._lists[name].append((len(self._lists["called"]), time.perf_counter() - start))

    def _finish(self, old: Callable) -> Callable:
        def done(*args: Any) -> Any:
            self._sent.put(None)
            return old(*args)

        return done

    def _write(self) -> None:
        self._path.write_text(json.dumps(self._lists), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
