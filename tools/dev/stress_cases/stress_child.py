"""The command line with windows in it: the process tells what it does, or ends itself at a step. The product is as it is.

    python -m tools.dev.stress_cases.stress_child '{"tell": FD, "term": STEP, ...}' train NAME ...

Every wish may be left out:

    tell      writes a line to a pipe at each change: "start", "step N", "evaluate", "save", "step" (back in it), "end"
    term      sends this process SIGTERM at a step;  pause: and stays there for so many seconds
    batches   a file: a checksum of each row that came to a device
    times     a file: when each step was handed over and when it was ready, the seconds of logging, saving, waiting for batches
    bare      with `times`, every second block of so many steps is neither logged nor saved
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
    wishes, *words = argv
    wanted = json.loads(wishes)
    tell = _teller(wanted.get("tell"))
    tell("start")  # before JAX is imported: that, too, is a time to be killed
    if "tell" in wanted:
        _tell_phases(tell)
    if "term" in wanted or "batches" in wanted:
        _at_each_step(wanted.get("term"), wanted.get("pause", 0.0), wanted.get("batches"))
    if "times" in wanted:
        Times(Path(wanted["times"]), wanted.get("bare"))
    from tools import cli

    return cli.main(words)


def _teller(fd: int | None) -> Callable[[str], Any]:
    return lambda line: None if fd is None else os.write(fd, f"{line}\n".encode())


def _replace(owner: Any, name: str, make: Callable[[Callable], Callable]) -> None:
    """`owner.name` becomes `make(owner.name)`."""
    old = getattr(owner, name)
    setattr(owner, name, functools.wraps(old)(make(old)))


def _tell_phases(tell: Callable[[str], Any]) -> None:
    from research.run.checkpoint import Checkpoints
    from research.run.run import Run

    def around(word: str) -> Callable:
        def make(old: Callable) -> Callable:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                tell(word)
                try:
                    return old(*args, **kwargs)
                finally:
                    tell("step")

            return wrapped

        return make

    def loop(old: Callable) -> Callable:
        def wrapped(self: Any) -> Iterator:
            for batch in old(self):
                tell(f"step {self.done - 1}")
                yield batch
            tell("end")

        return wrapped

    _replace(Run, "batches", loop)
    _replace(Run, "measure", around("evaluate"))
    _replace(Checkpoints, "save", around("save"))


def _at_each_step(term: int | None, pause: float, batches: str | None) -> None:
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
    """{row: CRC-32 of its values} of the rows of a global batch that are on this process's devices."""
    import numpy as np

    found: dict[int, int] = {}
    for name in sorted(batch):
        for shard in batch[name].addressable_shards:
            if shard.replica_id:  # another device's copy
                continue
            first = shard.index[0].start or 0
            for row, values in enumerate(np.asarray(shard.data), first):
                found[row] = zlib.crc32(values.tobytes(), found.get(row, 0))
    return found


def bare(done: int, block: int) -> bool:
    """Whether the step that is the `done`th is neither logged nor saved: in every second block.

    Blocks are half a one on: a checkpoint falls into the middle of its block, and is written before the end.
    """
    return bool((done + block // 2) // block % 2)


class Times:
    """Writes a JSON of lists at the end: for each step `called`, `returned` and `ready` (s), and the seconds of parts."""

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
        """Waits for each step's result as it comes, in a thread: the loop does not."""
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
