"""The numbers that requests left, in one SQLite file a folder.

In WAL mode a process killed at any moment loses at most the requests that it had not yet committed, and readers never wait. (A
power cut may lose the last commits, too.) The file is bounded: the oldest requests make room for new ones.

requests   one a request: what the client was answered, and when
answers    one a row predicted or text generated: latency, batch, tokens, confidence, signals
labels     what turned out to be true, by request and row
servers    memory, and requests that went unrecorded, now and then
models     what was served: the layout of its signals, and its reference
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from research.util.errors import UserError
from research.util.escape import visible

FILE = "requests.sqlite"
VERSION = 1
MOST = 200_000  # requests that are kept
SLACK = 0.05  # of MOST are deleted at once
SCHEMA = """
create table requests (id text primary key, time real, route text, status integer, seconds real) without rowid;
create table answers (
  id text, row integer, time real, model text, version text, queue real, prefill real, decode real, fill real,
  prompt integer, generated integer, confidence real, prediction text, signals blob, primary key (id, row)
) without rowid;
create table labels (id text, row integer, label text, subgroup text, primary key (id, row)) without rowid;
create table servers (server text, time real, memory integer, dropped integer, primary key (server, time)) without rowid;
create table models (
  name text, version text, layout text, reference blob, primary key (name, version)
) without rowid;
create index requests_by_time on requests (time);
"""
TABLES = ("requests", "answers", "labels", "servers", "models")


class Request(NamedTuple):
    """One request: its id, when it ended (seconds since 1970), route, HTTP status and seconds until the whole answer."""

    id: str
    time: float
    route: str
    status: int
    seconds: float


class Answer(NamedTuple):
    """One row predicted or text generated. Latencies are in seconds; what does not apply is None.

    queue       until the device began
    prefill     of a text, until its first token; of a row, the batch's computation
    decode      of a text, from the first token to the last
    fill        of a row, the share of its batch that was filled
    confidence  the top-1 probability; of a text the geometric mean of its tokens'
    prediction  the top-1 class by name
    signals     f32, as `Model.layout` has them
    """

    id: str
    row: int
    time: float
    model: str
    version: str
    queue: float | None = None
    prefill: float | None = None
    decode: float | None = None
    fill: float | None = None
    prompt: int | None = None
    generated: int | None = None
    confidence: float | None = None
    prediction: str | None = None
    signals: bytes | None = None


class Label(NamedTuple):
    """What a row turned out to be: the name of its class, and a subgroup that it is counted with, if any."""

    id: str
    row: int
    label: str
    subgroup: str | None = None


class Model(NamedTuple):
    """A model that is served. `layout` is {signal: count of its numbers}, in their order; `reference` as `to_bytes` wrote it."""

    name: str
    version: str
    layout: Mapping[str, int]
    reference: bytes | None


class Store:
    """A folder to write to, which may have been written to before. One thread uses it."""

    def __init__(self, folder: Path, most: int = MOST):
        """Raises UserError if the folder cannot be made, or its file is something else."""
        self._most = most
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / FILE, timeout=10, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.execute("pragma journal_size_limit = 4194304")
            with self._transaction():
                if self._db.execute("pragma user_version").fetchone()[0] == 0:
                    for statement in SCHEMA.split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"pragma user_version = {VERSION}")
            _check_version(self._db, folder)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{folder}: cannot keep requests there: {visible(error)}") from None
        self._count = self._db.execute("select count(*) from requests").fetchone()[0]

    @contextlib.contextmanager
    def _transaction(self):
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def add(self, requests: Sequence[Request], answers: Iterable[Answer] = ()) -> None:
        """Adds all of them or, if the process is killed meanwhile, none. A request that is there already stays as it is."""
        with self._transaction():
            there = {each.id for each in requests if self._has("requests where id = ?", each.id)}
            self._count += self._insert("requests", [each for each in requests if each.id not in there])
            self._insert("answers", [each for each in answers if each.id not in there])
            if self._count > self._most:
                self._trim()

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Adds the labels whose row is in the store, in place of those that rows had -> their number."""
        with self._transaction():
            known = [label for label in labels if self._has("answers where id = ? and row = ?", *label[:2])]
            self._db.executemany("insert or replace into labels values (?, ?, ?, ?)", known)
        return len(known)

    def add_model(self, model: Model) -> None:
        row = (model.name, model.version, json.dumps(model.layout), model.reference)
        with self._transaction():
            self._db.execute("insert or replace into models values (?, ?, ?, ?)", row)

    def add_server(self, server: str, time: float, memory: int, dropped: int) -> None:
        """A server's memory in bytes, and how many requests it has not recorded since it started."""
        with self._transaction():
            self._db.execute("insert or replace into servers values (?, ?, ?, ?)", (server, time, memory, dropped))
            oldest = "select time from servers order by time desc limit 1 offset ?"
            self._db.execute(f"delete from servers where time < ({oldest})", (self._most // 10,))

    def close(self) -> None:
        self._db.close()

    def _has(self, what: str, *values: str | int) -> bool:
        return self._db.execute(f"select 1 from {what}", values).fetchone() is not None

    def _insert(self, table: str, rows: Iterable[tuple]) -> int:
        before = self._db.total_changes
        rows = list(rows)
        if rows:
            self._db.executemany(f"insert or ignore into {table} values ({', '.join('?' * len(rows[0]))})", rows)
        return self._db.total_changes - before

    def _trim(self) -> None:
        """Deletes the oldest requests with what belongs to them: their pages are used again, so that the file stops growing."""
        kept = int(self._most * (1 - SLACK))
        oldest = "select id from requests order by time desc limit -1 offset ?"
        for table in ("answers", "labels", "requests"):
            self._db.execute(f"delete from {table} where id in ({oldest})", (kept,))
        self._count = kept


def merged(folders: Sequence[str | Path]) -> sqlite3.Connection:
    """The stores of several servers as one database in memory, with the same tables: each request once, by its id.

    Raises UserError if a folder has no store, or it cannot be read.
    """
    db = sqlite3.connect(":memory:", uri=True, isolation_level=None)
    db.executescript(SCHEMA)
    for folder in folders:
        path = Path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{folder}: there is no {FILE}; give a folder of `almanac serve --monitor`")
        try:
            db.execute("attach ? as one", (f"{path.resolve().as_uri()}?mode=ro",))
            _check_version(db, folder, "one.")
            for table in TABLES:
                db.execute(f"insert or ignore into {table} select * from one.{table}")
            db.execute("detach one")
        except sqlite3.Error as error:
            raise UserError(f"{path} cannot be read: {visible(error)}") from None
    return db


def _check_version(db: sqlite3.Connection, folder: str | Path, schema: str = "") -> None:
    version = db.execute(f"pragma {schema}user_version").fetchone()[0]
    if version != VERSION:
        raise UserError(f"{folder}: its store is of format {version}, this is {VERSION}; give another folder")
