"""What requests held and were answered, as a table of the store: for some days, bounded, and without a trace afterwards.

A deleted row stays in SQLite's free pages and in its log, and copies of it where a page was rearranged. `secure_delete` writes
zeros over the first; `erase` writes the file anew and empties the log, so that no byte of it is in the folder.
"""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

MOST = 50_000  # rows that are kept
MOST_BYTES = 256 << 20  # of them all
SLACK = 0.05  # of the rows are deleted at once
TEXT, PICTURE, CONVERSATIONS = "text", "picture", "conversations"
SCHEMA = """
create table captured (
  id text, row integer, time real, until real, size integer, model text, version text, kind text, input blob, output text,
  primary key (id, row)
);
create index captured_by_time on captured (time, size);
create index captured_by_end on captured (until);
"""


class Captured(NamedTuple):
    """What one row of a request held, and until when it is kept.

    kind    TEXT, PICTURE or CONVERSATIONS
    input   a text in UTF-8; a PNG; the messages up to the answer, as JSON
    output  of a conversation, the answer, empty if it was cut at its length; of what is classified None: its `Answer` has it
    """

    id: str
    row: int
    time: float
    until: float
    size: int
    model: str
    version: str
    kind: str
    input: bytes
    output: str | None = None


def add(db: sqlite3.Connection, rows: Iterable[Captured], most: int = MOST, most_bytes: int = MOST_BYTES) -> int:
    """Adds rows; beyond either bound the oldest are deleted -> their number."""
    db.executemany("insert or ignore into captured values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    count, size = db.execute("select count(*), coalesce(sum(size), 0) from captured").fetchone()
    if count <= most and size <= most_bytes:
        return 0
    newest = "select id, row, row_number() over newest as number, sum(size) over newest as total from captured"
    kept = f"select id, row from ({newest} window newest as (order by time desc, id, row)) where number <= ? and total <= ?"
    bounds = int(most * (1 - SLACK)), int(most_bytes * (1 - SLACK))
    return db.execute(f"delete from captured where (id, row) not in ({kept})", bounds).rowcount


def expire(db: sqlite3.Connection, now: float) -> int:
    """Deletes the rows whose time is over -> their number."""
    return db.execute("delete from captured where until <= ?", (now,)).rowcount


def erase(db: sqlite3.Connection) -> bool:
    """Leaves nothing of what was deleted in any file -> whether it did: not while another process reads, or without room."""
    try:
        db.execute("vacuum")
        return db.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
    except sqlite3.OperationalError:
        return False
