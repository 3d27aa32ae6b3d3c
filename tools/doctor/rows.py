"""What `almanac doctor` finds, a row a finding, and how rows are printed."""

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from research.util.escape import visible


class Row(NamedTuple):
    """One finding. It is a fault if it has a remedy."""

    name: str
    value: str
    remedy: str = ""


def report(rows: Iterable[Row]) -> int:
    """Prints rows as they come, and returns how many are faults."""
    faults = 0
    for row in rows:
        faults += bool(row.remedy)
        print(_fill(f"{visible(row.name):20} ", visible(row.value)), flush=True)
        if row.remedy:
            print(_fill(f"{'':20} ", f"WRONG: {visible(row.remedy)}"), flush=True)
    print("all is well" if not faults else f"{faults} wrong; each has its remedy above")
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
