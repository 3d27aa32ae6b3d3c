"""How a command ends: a mistake of the user's is one line and a status, not a stack trace."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any

from research.cluster.rendezvous import RESUMABLE, Lost
from research.util.errors import UserError
from research.util.escape import visible

# What is wrong with a file's name or its place, not with this program.
MISTAKES = {
    errno.ENOSPC: "no space left to write {}; free some and start again",
    errno.ENAMETOOLONG: "{}: the name is too long for a file",
}
CLOSED_PIPE = 141  # as a shell tells of a command that SIGPIPE ended


def guarded(go: Callable[[], int]) -> int:
    """Runs `go`; the user's mistake is one line and status 2, a host that is not there one line and 75.

    If what reads the output has gone, as `head` has after ten lines, it ends without a word: status 141.
    """
    _print_any_character()
    try:
        try:
            return go()
        finally:
            sys.stdout.flush()  # what Python would do at its end, where nothing can be caught
    except UserError as e:
        print(f"almanac: {visible(e)}", file=sys.stderr)
        return 2
    except Lost as e:
        print(f"almanac: {visible(e)}", file=sys.stderr)
        return RESUMABLE
    except BrokenPipeError:
        if not (closed := [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]):
            raise  # another connection's
        for stream in closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return CLOSED_PIPE
    except OSError as e:
        if e.errno not in MISTAKES:
            raise
        name = str(e.filename or "a file")
        name = name if len(name) <= 120 else f"{name[:60]}...{name[-57:]}"
        print(f"almanac: {MISTAKES[e.errno].format(visible(name))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("almanac: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _print_any_character() -> None:
    """Lets a terminal or pipe that is not UTF-8 show "?" for what it has no character for, in place of a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _is_closed(stream: Any) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), 0)
    except (OSError, ValueError):  # a test's or a notebook's, with no file below it
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))
