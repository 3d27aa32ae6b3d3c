"""How a command ends: a mistake of the user's is one line and a status, not a stack trace."""

import errno
import io
import sys
from collections.abc import Callable

from research.cluster.rendezvous import RESUMABLE, Lost
from research.util.errors import UserError
from research.util.escape import visible


def guarded(go: Callable[[], int]) -> int:
    """Runs `go`; the user's mistake is one line and status 2, a host that is not there one line and 75."""
    _print_any_character()
    try:
        return go()
    except UserError as e:
        print(f"almanac: {visible(e)}", file=sys.stderr)
        return 2
    except Lost as e:
        print(f"almanac: {visible(e)}", file=sys.stderr)
        return RESUMABLE
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        print(
            f"almanac: no space left to write {visible(e.filename or 'a file')}; free some and start again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("almanac: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _print_any_character() -> None:
    """Lets a terminal or pipe that is not UTF-8 show "?" for what it has no character for, in place of a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")
