"""Whether other processes use the cores that are measured on: busy time by /proc/stat, less our own.

A load average lags by a minute and counts our own processes; the kernel's counters do neither.
"""

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

LIMIT = 0.05  # share of the cores' time; an idle machine shows 0.00 to 0.02
_BUSY = (0, 1, 2, 5, 6, 7)  # of a line's columns: user, nice, system, irq, softirq, steal; guests are in user
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_STAT = Path("/proc/stat")


class Reading(NamedTuple):
    """Seconds: a clock, what all processes have used of the cores, and what our own have."""

    clock: float
    busy: float
    own: float


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def read(on: Collection[int], pids: Sequence[int] = ()) -> Reading | None:
    """The counters of the cores `on`; `pids` are processes of ours besides this one. None where the system has none."""
    if not _STAT.exists():
        return None
    own = sum(map(_used, [os.getpid(), *pids]))
    return Reading(time.perf_counter(), _busy(_STAT.read_text(), on), own)


def _busy(text: str, on: Collection[int]) -> float:
    """Seconds for which the cores `on` were not idle, of the text of /proc/stat."""
    total = 0
    for line in text.splitlines():
        name, *columns = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in on:
            total += sum(int(columns[i]) for i in _BUSY if i < len(columns))
    return total / _TICK


def _used(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK  # utime, stime: columns 14 and 15 of the line


def others(before: Reading | None, after: Reading | None, count: int) -> float | None:
    """The share of `count` cores' time that other processes used between two readings."""
    if before is None or after is None:
        return None
    spent = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, spent / ((after.clock - before.clock) * count))


def sample(on: Collection[int], seconds: float = 2.0) -> float | None:
    """The share over the next `seconds`, in which this process does nothing."""
    before = read(on)
    time.sleep(seconds)
    return others(before, read(on), len(on))
