"""The shop's orders: a .csv, .tsv or .jsonl. `order` is the unique number; every other column is shown to the customer."""

from collections.abc import Iterator
from pathlib import Path

from research.data import user_files
from research.util import home
from research.util.errors import UserError

Row = dict[str, str]


def read(file: str | Path) -> tuple[dict[str, Row], list[str]]:
    """-> the row of each order's number, and a line for each row that is skipped.

    Raises UserError if the file cannot be read, is of another kind, has no order, or the same number twice.
    """
    path = home.expanded(str(file), "--orders")
    orders, places, skipped = dict[str, Row](), dict[str, str](), list[str]()
    for place, row, fault in _rows(path):
        number = "" if row is None else row["order"].strip()
        if row is None or not number:
            skipped.append(f"{path.name}, {place}: {fault or 'no number under order'}")
            continue
        if number in orders:
            raise UserError(f"{path}: order {number!r} on {places[number]} and {place}; leave one out")
        orders[number], places[number] = row, place
    if not orders:
        raise UserError(f"{path} has no order{f' ({skipped[0]})' if skipped else ''}")
    return orders, skipped


def _rows(path: Path) -> Iterator[tuple[str, Row | None, str]]:
    """(place in the file, the row or None, what is wrong with it)."""
    if delimiter := user_files.TABLES.get(path.suffix.lower()):
        yield from user_files.table(path, delimiter, ["order"], "name the column of the orders' numbers order")
    elif path.suffix.lower() == ".jsonl":
        for place, row in user_files.json_lines(user_files.read(path)):
            if isinstance(row, str):
                yield place, None, row
            elif not isinstance(row.get("order"), str) or not all(isinstance(value, str) for value in row.values()):
                yield place, None, 'want {"order": "...", ...}, all of them texts'
            else:
                yield place, row, ""
    else:
        raise UserError(f"--orders={path}: want a .csv, .tsv or .jsonl file")
