"""The user's mistakes: one clear line naming the thing, the value and the remedy."""

import difflib
from collections.abc import Iterable

MOST = 24  # names in one line


class UserError(Exception):
    """A mistake that the user can mend. The command line prints its one line and exits with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or, where nothing is near, the first MOST of what is known. Empty if nothing is known.

    >>> nearest("bret", ["bert", "gan"]), nearest("x", ["bert", "gan"])
    ("; did you mean 'bert'?", '; known: bert, gan')
    """
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"; known: {', '.join(known[:MOST])}{more}" if known else ""
