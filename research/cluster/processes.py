"""Children of this process: the hosts of one run on one machine, or one command that is started again when it fails."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

RESUMABLE = 75
FINAL = (0, 2, 130)  # done, a mistake to mend, interrupted: a restart would help in none
WORST = (0, RESUMABLE, 130, 2)  # from the best; any other status is worse
LONGEST = 60  # seconds before a restart
PARENT = "ALMANAC_PARENT"


class Children:
    """`with Children() as children:` starts processes and hands SIGTERM and SIGINT on to them; `told` has those that came."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen] = []
        self.told: list[int] = []

    def __enter__(self) -> "Children":
        self._before = {s: signal.signal(s, self._hand_on) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hand_on(self, number: int, _: Any) -> None:
        self.told.append(number)
        for child in self._running:
            child.send_signal(number)

    def start(self, command: Sequence[str], **how: Any) -> subprocess.Popen:
        # In a group of its own, or the terminal's Ctrl-C would come to it twice.
        child = subprocess.Popen(command, env=os.environ | {PARENT: str(os.getpid())}, process_group=0, **how)
        self._running.append(child)
        for number in self.told:  # while it was being started
            child.send_signal(number)
        return child


def follow_parent() -> None:
    """A process that `Children` started asks for a SIGTERM when its parent dies (Linux; elsewhere it would go on alone)."""
    if sys.platform == "linux" and os.environ.get(PARENT) == str(os.getppid()):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # 1: PR_SET_PDEATHSIG


def together(commands: Sequence[Sequence[str]]) -> int:
    """Runs all at once: the first with this process's stdout and stderr, the others' lines go to stderr, as "host 1: ...".

    The worst exit status; a host killed by a signal counts as 75 where another one says that the run can go on.
    """
    with Children() as children:
        running, readers = [children.start(commands[0])], []
        for number, command in enumerate(commands[1:], 1):
            running.append(children.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
            readers.append(threading.Thread(target=_pass_on, args=(number, running[-1]), daemon=True))
            readers[-1].start()
        status = worst([child.wait() for child in running])
        for reader in readers:
            reader.join(5)
        return status


def _pass_on(number: int, child: subprocess.Popen) -> None:
    for line in child.stdout:
        with contextlib.suppress(OSError):  # a child must not wait for a terminal that is gone
            print(f"host {number}: {line.decode(errors='replace')}", end="", file=sys.stderr, flush=True)


def worst(statuses: Sequence[int]) -> int:
    """Statuses as `Popen` gives them (a signal is below 0) -> one for all."""
    killed = RESUMABLE if RESUMABLE in statuses else 1
    whole = [killed if status < 0 else status for status in statuses]
    return max(whole, key=lambda status: WORST.index(status) if status in WORST else len(WORST))


def supervise(
    command: Sequence[str], restarts: int, progress: Callable[[], Any], sleep: Callable[[float], Any] = time.sleep
) -> int:
    """Runs `command`, again when it fails, at most `restarts` times, each after twice the wait. -> exit status.

    A second failure in a row (75 is none) with `progress()` where it was after the first would come again: it ends it.
    """
    failed_at: list = []  # progress at the failure before this one, if it was one
    with Children() as children:
        for restart in range(restarts + 1):
            status = children.start(command).wait()
            if status in FINAL or children.told:
                return _told(status, children.told)
            at, how = progress(), _describe(status)
            if status != RESUMABLE and failed_at == [at]:
                _say(f"{how}, as before it, at {at}: not started again")
                break
            if restart == restarts:
                _say(f"{how}; {restarts} restart{'s' * (restarts != 1)} used up")
                break
            failed_at = [] if status == RESUMABLE else [at]
            seconds = min(2**restart, LONGEST)
            _say(f"{how}, at {at}; restart {restart + 1} of {restarts} in {seconds} s")
            if _wait(seconds, children.told, sleep):
                return _told(status, children.told)
    return status if status > 0 else 1


def _wait(seconds: float, told: list[int], sleep: Callable[[float], Any]) -> bool:
    """Waits, in pieces: True at once when a signal came."""
    while seconds > 0 and not told:
        sleep(min(seconds, 0.5))
        seconds -= 0.5
    return bool(told)


def _told(status: int, told: list[int]) -> int:
    """The status of a child that was told to stop; one that had no time to save leaves its last checkpoint."""
    if status in FINAL or not told:
        return status
    return 130 if signal.SIGINT in told else RESUMABLE


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _say(line: str) -> None:
    print(f"almanac: {line}", file=sys.stderr, flush=True)
