"""The numbers that requests left, in one SQLite file a folder.

In WAL mode a process killed at any moment loses at most the requests that it had not yet committed, and readers never wait. (A
power cut may lose the last commits, too.) The file is bounded: the oldest requests make room for new ones.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from research.serving.monitor import captured, sealing
from research.serving.monitor.captured import Captured
from research.serving.monitor.tables import (
    NEW,
    OF_REQUESTS,
    SCHEMA,
    TABLES,
    UPGRADE,
    VERSION,
    Answer,
    Feedback,
    Model,
    Request,
)
from research.util import sealed
from research.util.errors import UserError
from research.util.escape import visible

FILE = "requests.sqlite"
MOST = 200_000  # requests that are kept
SLACK = 0.05  # of MOST are deleted at once
WITH_FEEDBACK = (
    "insert or ignore into captured select id, row, time, until, size, model, version, kind, "
    "case when exists (select 1 from one.feedback f where f.id = c.id and f.row = c.row) then input end, output "
    "from one.captured c where model = ?"
)


class Store:
    """A folder to write to, which may have been written to before. One thread uses it.

    If this process has keys, contents and corrections are sealed with the first one (sealing.py).
    """

    def __init__(self, folder: Path, most: int = MOST):
        """Raises UserError if the folder cannot be made, or its file is something else."""
        self._most, self._keys = most, sealed.from_environment()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / FILE, timeout=10, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.execute("pragma journal_size_limit = 4194304")
            self._db.execute("pragma secure_delete = on")
            with self._transaction():
                version = self._db.execute("pragma user_version").fetchone()[0]
                if version < VERSION:
                    for statement in ((UPGRADE if version else SCHEMA) + captured.SCHEMA).split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"pragma user_version = {VERSION}")
            _check_version(self._db, folder)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{folder}: cannot keep requests there: {visible(error)}") from None
        self._count = self._db.execute("select count(*) from requests").fetchone()[0]
        self._unerased = self._has("captured")  # by a process that ended before it had erased what it deleted

    @contextlib.contextmanager
    def _transaction(self):
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def add(
        self, requests: Sequence[Request], answers: Iterable[Answer] = (), contents: Iterable[Captured] = ()
    ) -> None:
        """Adds all of them or, if the process is killed meanwhile, none. A request that is there already stays as it is."""
        with self._transaction():
            there = {each.id for each in requests if self._has("requests where id = ?", each.id)}
            self._count += self._insert("requests", [each for each in requests if each.id not in there])
            self._insert("answers", [each for each in answers if each.id not in there])
            new = [sealing.seal(self._keys, each) for each in contents if each.id not in there]
            self._unerased |= captured.add(self._db, new) > 0
            if self._count > self._most:
                self._trim()

    def add_feedback(self, feedback: Iterable[Feedback]) -> int:
        """Adds the feedback on rows that are in the store, in place of what those rows had -> their number."""
        with self._transaction():
            known = [each for each in feedback if self._has("requests where id = ? and answered > ?", *each[:2])]
            rows = [sealing.seal(self._keys, each) for each in known]
            self._db.executemany("insert or replace into feedback values (?, ?, ?, ?, ?, ?)", rows)
        return len(known)

    def expire(self, now: float) -> None:
        """Deletes the contents whose time is over, and leaves nothing of them in the folder's files."""
        self._unerased |= captured.expire(self._db, now) > 0
        if self._unerased:
            self._unerased = not captured.erase(self._db)

    def check_keys(self) -> None:
        """Raises UserError if contents or corrections are sealed and this process has no keys: what follows would not be."""
        if self._keys is None and sealing.is_any_sealed(self._db):
            raise UserError(f"what is kept there is sealed: set {sealed.KEYS} or {sealed.KEYS_FILE}")

    def seal(self) -> int:
        """Seals what is not sealed with the first key, and leaves nothing else of it in the folder's files -> the number of rows.

        Raises UserError without keys, for a row that none of them opens, and if the files could not be cleared.
        """
        if self._keys is None:
            raise UserError(f"no key: set {sealed.KEYS} or {sealed.KEYS_FILE}; almanac seal --new-key makes one")
        changed = sealing.seal_all(self._db, self._keys, self._transaction)
        self._erase("sealed")
        return changed

    def forget(self, ids: Iterable[str]) -> tuple[list[str], dict[str, int]]:
        """Deletes all that requests left, also from the folder's files -> the ids that were there, {table: deleted rows}.

        Raises UserError if the files could not be cleared, as another process reads them all the time or there is no room.
        """
        with self._transaction():
            there = [id for id in dict.fromkeys(ids) if self._has("requests where id = ?", id)]
            delete = "delete from {} where id = ?"
            counts = {
                table: sum(self._db.execute(delete.format(table), (id,)).rowcount for id in there)
                for table in OF_REQUESTS
            }
        self._erase("deleted")
        return there, counts

    def _erase(self, what: str) -> None:
        if not captured.erase(self._db):
            raise UserError(
                f"{what}, but not in every file: another process reads the store, or its disk is full; run this again"
            )

    def add_model(self, model: Model) -> None:
        row = (model.name, model.version, json.dumps(model.layout), model.reference, json.dumps(list(model.classes)))
        with self._transaction():
            self._db.execute("insert or replace into models values (?, ?, ?, ?, ?)", row)

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
        for table in OF_REQUESTS:
            self._db.execute(f"delete from {table} where id in ({oldest})", (kept,))
        self._count = kept


def merged(folders: Sequence[str | Path], with_captured: str | None = None) -> sqlite3.Connection:
    """The stores of several servers as one database in memory, with the same tables: each request once, by its id.

    `captured` is empty but for the model `with_captured`, and there `input` is None where no feedback came.

    Raises UserError if a folder has no store, or it cannot be read.
    """
    db = sqlite3.connect(":memory:", uri=True, isolation_level=None)
    db.executescript(SCHEMA + captured.SCHEMA)
    for folder in folders:
        path = Path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{folder}: there is no {FILE}; give a folder of `almanac serve --monitor`")
        try:
            db.execute("attach ? as one", (f"{path.resolve().as_uri()}?mode=ro",))
            old = _check_version(db, folder, "one.") < VERSION
            for table in TABLES:
                columns = [name for _, name, *_ in db.execute(f"pragma table_info({table})")]
                shared = ", ".join(name for name in columns if not (old and name in NEW))
                source = "labels" if old and table == "feedback" else table
                db.execute(f"insert or ignore into {table} ({shared}) select {shared} from one.{source}")
            if with_captured is not None and not old:
                db.execute(WITH_FEEDBACK, (with_captured,))
            db.execute("detach one")
        except sqlite3.Error as error:
            raise UserError(f"{path} cannot be read: {visible(error)}") from None
    return db


def classes_of(folder: Path, id: str, row: int) -> list[str] | None:
    """The classes that a row could have had, none but a classifier's; None if the row is not in the store."""
    db = sqlite3.connect(f"{(folder / FILE).resolve().as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        found = db.execute(
            "select classes from requests left join answers on answers.id = requests.id and row = ?2 "
            "left join models on name = model and models.version = answers.version "
            "where requests.id = ?1 and answered > ?2",
            (id, row),
        ).fetchone()
    finally:
        db.close()
    return found and json.loads(found[0] or "[]")


def _check_version(db: sqlite3.Connection, folder: str | Path, schema: str = "") -> int:
    version = db.execute(f"pragma {schema}user_version").fetchone()[0]
    if not 1 <= version <= VERSION:
        raise UserError(f"{folder}: its store is of format {version}, this is {VERSION}; give another folder")
    return version
