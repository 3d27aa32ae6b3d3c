"""The user's mistakes: one clear line naming the thing, the value and the remedy."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. The command line prints its one line and exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or `"; known: a, b, c"` where nothing is near. Empty if there is none."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
