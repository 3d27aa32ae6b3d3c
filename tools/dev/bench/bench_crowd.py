"""The share of the cores' time that other processes use: busy time by /proc/stat, minus our own.

Unlike the load average, these counters do not lag by a minute and can exclude our own processes.
"""

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

LIMIT = 0.05  # share of the cores' time; an idle machine shows 0.00 to 0.02
_BUSY = (0, 1, 2, 5, 6, 7)  # columns of a line: user, nice, system, irq, softirq, steal; guests are counted in user
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_STAT = Path("/proc/stat")


class Reading(NamedTuple):
    """In seconds: a clock, the time for which the cores were busy, and the CPU time of our own processes."""

    clock: float
    busy: float
    own: float


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def read(on: Collection[int], pids: Sequence[int] = ()) -> Reading | None:
    """The counters of the cores `on`; `pids` are further processes of ours. None if the system has no such counters."""
    if not _STAT.exists():
        return None
    own = sum(map(_used, [os.getpid(), *pids]))
    return Reading(time.perf_counter(), _busy(_STAT.read_text(), on), own)


def _busy(text: str, on: Collection[int]) -> float:
    """The text of /proc/stat -> the seconds for which the cores `on` were not idle."""
    total = 0
    for line in text.splitlines():
        name, *columns = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in on:
            total += sum(int(columns[i]) for i in _BUSY if i < len(columns))
    return total / _TICK


def _used(pid: int) -> float:
    """The CPU time of a process, over all its threads, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK  # utime and stime, columns 14 and 15 of the line


def others(before: Reading | None, after: Reading | None, count: int) -> float | None:
    """The share of `count` cores' time that other processes used between two readings; None if one is missing.

    >>> others(Reading(10.0, 100.0, 5.0), Reading(12.0, 103.0, 7.0), count=2)  # 3 s busy, 2 of them ours, of 4
    0.25
    """
    if before is None or after is None:
        return None
    spent = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, spent / ((after.clock - before.clock) * count))


def sample(on: Collection[int], seconds: float = 2.0) -> float | None:
    """Sleeps for `seconds` -> the share of the time that other processes used; None if unknown."""
    before = read(on)
    time.sleep(seconds)
    return others(before, read(on), len(on))
