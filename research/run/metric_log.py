"""The files a run writes: metrics.jsonl, timing.jsonl, TensorBoard events; the terminal and the clock."""

import contextlib
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from research.util import run_files
from research.util.errors import UserError
from research.util.escape import visible
from research.util.files import write_bytes, write_errors

PROGRESS_SECONDS = 60  # between lines of progress where there is no terminal, and so no bar
EVENTS_SECONDS = 30  # TensorBoard sees events at the latest so long after they were written


class RunLogger:
    """Opens a run directory's logs for appending after `step`; later lines, of an attempt that was lost, are removed.

    So are lines at `step` of the splits in `again`, which will be measured again.
    """

    def __init__(self, folder: Path, step: int, num_steps: int, writes: bool, again: Sequence[str] = ()):
        self._folder, self._writes, self._failed = folder, writes, False
        self._files: dict[str, Any] = {}
        self._num_steps, self._progress = num_steps, time.perf_counter()
        self._bar = tqdm(
            total=num_steps, initial=step, unit=" steps", disable=not (writes and sys.stderr.isatty()),
            dynamic_ncols=True, bar_format="{percentage:3.0f}% {bar} {n:,}/{total:,} {elapsed}<{remaining}{postfix}",
        )  # fmt: skip
        if not writes:
            return
        said = [_trim(folder, name, step, again) for name in run_files.LOGS]
        run_files.inside(folder, "samples")  # the run writes there
        for name in run_files.LOGS:
            self._files[name] = open(folder / name, "a", encoding="utf-8")  # noqa: SIM115
        self._events = Events(folder, step)
        for line in filter(None, said):
            self.say(line)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One object a line, and the scalars `split/name`."""
        if not self._writes:
            return
        # JSON has no NaN: what could not be measured is null.
        clean = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        with self._writing():
            self._line("metrics.jsonl", {"step": step, "split": split, "values": clean})
            self._events.write(step, split, values)
        if split != "train":
            words = "  ".join(f"{k} {v:.4f}" for k, v in values.items())
            self.say(f"step {step:>7,}  {split:<5}  {words}")

    def time(self, step: int, rates: Mapping[str, float], values: Mapping[str, float]) -> None:
        if not self._writes:
            return
        with self._writing():
            self._line("timing.jsonl", {"step": step, **{k: round(v, 6) for k, v in rates.items()}})
            self._events.write(step, "timing", rates)
        unit = "tokens" if "tokens_per_s" in rates else "examples"
        words = [f"{k.replace('/', ' ')} {v:.3f}" for k, v in values.items() if k.endswith("loss")]
        words.append(f"{rates[f'{unit}_per_s']:,.0f} {unit}/s")
        if "mfu" in rates:
            words.append(f"MFU {rates['mfu']:.1%}")
        if self._bar.disable and time.perf_counter() - self._progress >= PROGRESS_SECONDS:
            self._progress = time.perf_counter()
            self.say(f"step {step:>7,} of {self._num_steps:,}  train  {'  '.join(words)}")
        self._bar.set_postfix_str("  ".join(words), refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if self._writes:
            self._bar.write(visible(line, keep="\n"), file=sys.stdout)
            sys.stdout.flush()

    def flush(self) -> None:
        """Syncs to disk: a checkpoint promises that the log before it is there."""
        if not self._writes:
            return
        with self._writing():
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            self._events.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with write_errors(self._folder):
                yield
        except BaseException:
            self._failed = True
            raise

    def _line(self, name: str, value: Mapping) -> None:
        self._files[name].write(json.dumps(value) + "\n")
        self._files[name].flush()

    def finish_bar(self) -> None:
        self._bar.close()

    def close(self) -> None:
        self._bar.close()
        if not self._writes:
            return
        # What could not be written has been told, and would be told again: a file keeps it, to try once more.
        with contextlib.suppress(UserError) if self._failed else contextlib.nullcontext(), write_errors(self._folder):
            with contextlib.ExitStack() as stack:
                for file in (*self._files.values(), self._events):
                    stack.callback(file.close)


class Events:
    """TensorBoard's scalars, in a file that is made with the first. Written at once: tensorboardX's own writer does it in a
    thread, which dies on a full disk and leaves the run waiting for it."""

    def __init__(self, folder: Path, step: int):
        importlib.import_module("tensorboardX.event_file_writer")  # else the device would wait for it at the first line
        self._prefix, self._step = str(folder / "events"), step
        self._writer: Any = None
        self._flushed = time.perf_counter()

    def _open(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        first = self._step + 1 if self._step else 0
        # The suffix: two lives that begin in one second would write to one file.
        self._writer = EventsWriter(self._prefix, filename_suffix=f".{first}")
        if first:  # TensorBoard, too, forgets the steps that were lost
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=first, wall_time=time.time(), session_log=start))

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        if self._writer is None:
            self._open()
        for name, value in values.items():
            event = Event(step=step, wall_time=time.time(), summary=scalar(f"{split}/{name}", value))
            self._writer.write_event(event)
        if time.perf_counter() - self._flushed > EVENTS_SECONDS:  # somebody may be looking
            self.flush()

    def flush(self) -> None:
        self._flushed = time.perf_counter()
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _trim(folder: Path, name: str, step: int, again: Sequence[str] = ()) -> str:
    """Keeps a log's lines up to `step`, which a resumed run does not write again, but for those of splits in `again` at `step`.

    Returns what is to be said of lines that cannot be read.

    Lines of later steps go, as does one that a kill cut short. Lines that cannot be read are appended to NAME.unreadable.
    Raises UserError if the log is a link that leads out of `folder`.
    """
    path = run_files.inside(folder, name)
    if not os.path.lexists(path):
        return ""
    kept, unreadable, faults = lines_until(path, step, again)
    if not faults:
        write_bytes(path, kept)
        return ""
    aside = run_files.inside(folder, f"{name}.unreadable")
    write_bytes(aside, (run_files.read_bytes(aside) if aside.exists() else b"") + unreadable)
    write_bytes(path, kept)
    count = "1 line" if len(faults) == 1 else f"{len(faults):,} lines"
    return f"{name}: {count} could not be read, moved to {aside.name}: {run_files.summary(faults)}"


def lines_until(log: Path, step: int, again: Sequence[str] = ()) -> tuple[bytes, bytes, list[str]]:
    """Of metrics.jsonl or timing.jsonl: the lines up to `step`, those that cannot be read, and what is wrong with these.

    Lines at `step` of the splits in `again` are left out.
    """
    read = run_files.read_log(log, run_files.LOGS[log.name])
    rows = [(line.raw, line.row) for line in read.lines if line.row is not None and line.row["step"] <= step]
    kept = b"".join(raw + b"\n" for raw, row in rows if row["step"] < step or row.get("split") not in again)
    return kept, b"".join(line.raw + b"\n" for line in read.lines if line.row is None), read.faults()


class Clock:
    """Seconds of this run over all its attempts, and rates between the steps that were marked."""

    def __init__(self, before: float, step: int):
        self._before, self._start = before, time.perf_counter()
        self._last, self._step = self._start, step
        self._marks: dict[int, float] = {}

    def elapsed(self) -> float:
        return self._before + time.perf_counter() - self._start

    def mark(self, step: int) -> None:
        """A step is logged now; its values are read, and its rates asked for, later."""
        self._marks[step] = time.perf_counter()

    def rates(self, step: int, units: Mapping[str, int], flops: float | None) -> dict[str, float]:
        """`flops`: of a step, as a share of what the devices could do in a second (model FLOPs utilisation)."""
        now = self._marks.pop(step, None) or time.perf_counter()
        steps, seconds = step - self._step, max(now - self._last, 1e-9)
        self._last, self._step = now, step
        total = self._before + now - self._start
        rates = {"seconds": total, **{f"{k}_per_s": v * steps / seconds for k, v in units.items()}}
        return rates | ({"mfu": flops * steps / seconds} if flops else {})
