"""The columns of a store that hold what people wrote: sealed if this process has keys (research/util/sealed.py).

The numbers of requests stay as they are, and so do ids, labels and predicted classes, which the report counts.
"""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from research.util import sealed
from research.util.sealed import Keys

COLUMNS = {"captured": ("input", "output"), "feedback": ("correction",)}
TOGETHER = 100  # rows a transaction
Row = TypeVar("Row", bound=Any)  # a NamedTuple with `id`, `row` and some of these columns


def seal(keys: Keys | None, row: Row) -> Row:
    """A row as it is written."""
    if keys is None:
        return row
    return row._replace(**{name: _sealed(keys, getattr(row, name), name, row.id, row.row) for name in _columns(row)})


def opened(row: Row) -> Row:
    """A row as it was before it was sealed. Raises UserError if no key fits it."""
    return row._replace(**{name: _opened(getattr(row, name), name, row.id, row.row) for name in _columns(row)})


def is_any_sealed(db: sqlite3.Connection) -> bool:
    length = len(sealed.MAGIC)
    return any(
        db.execute(f"select 1 from {table} where substr({column}, 1, {length}) = ? limit 1", (sealed.MAGIC,)).fetchone()
        for table, columns in COLUMNS.items()
        for column in columns
    )


def seal_all(db: sqlite3.Connection, keys: Keys, transaction: Callable[[], AbstractContextManager]) -> int:
    """Seals what is not sealed with the first key -> the number of rows. What is done stays done if it is interrupted."""
    changed = 0
    for table, columns in COLUMNS.items():
        places = db.execute(f"select id, row from {table}").fetchall()
        for start in range(0, len(places), TOGETHER):
            with transaction():
                changed += sum(
                    _seal_row(db, keys, table, columns, *place) for place in places[start : start + TOGETHER]
                )
    return changed


def _seal_row(db: sqlite3.Connection, keys: Keys, table: str, columns: tuple[str, ...], id: str, row: int) -> bool:
    of_row = "where id = ? and row = ?"
    values = db.execute(f"select {', '.join(columns)} from {table} {of_row}", (id, row)).fetchone() or ()
    now = tuple(
        _sealed(keys, _opened(value, name, id, row), name, id, row)
        if value is not None and not (isinstance(value, bytes) and keys.is_newest(value))
        else value
        for name, value in zip(columns, values, strict=False)
    )
    if now != values:
        db.execute(f"update {table} set {', '.join(f'{name} = ?' for name in columns)} {of_row}", (*now, id, row))
    return now != values


def _columns(row: Any) -> list[str]:
    return [name for names in COLUMNS.values() for name in names if name in row._fields]


def _sealed(keys: Keys, value: bytes | str | None, column: str, id: str, row: int) -> bytes | None:
    if value is None:
        return None
    return keys.seal(value if isinstance(value, bytes) else value.encode(), _name(column, id, row))


def _opened(value: bytes | str | None, column: str, id: str, row: int) -> bytes | str | None:
    """`input` is bytes, and the others are text."""
    if not isinstance(value, bytes) or not sealed.is_sealed(value):
        return value
    plain = sealed.opened(value, _name(column, id, row))
    return plain if column == "input" else plain.decode()


def _name(column: str, id: str, row: int) -> str:
    return f"the {column} of request {id}, row {row},"
