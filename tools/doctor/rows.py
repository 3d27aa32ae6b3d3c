"""The rows that `almanac doctor` prints, one for each finding."""

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from research.util.escape import visible


class Row(NamedTuple):
    """One finding: what was checked, the result and, for a fault only, its remedy."""

    name: str
    value: str
    remedy: str = ""


def report(rows: Iterable[Row]) -> int:
    """Prints each row as soon as it is available. Returns the number of faults."""
    faults = 0
    for row in rows:
        faults += bool(row.remedy)
        print(_fill(f"{visible(row.name):20} ", visible(row.value)), flush=True)
        if row.remedy:
            print(_fill(f"{'':20} ", f"WRONG: {visible(row.remedy)}"), flush=True)
    print("no faults" if not faults else f"{faults} wrong; each has its remedy above")
    return faults


def _fill(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        width=100,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
