"""The store survives kill -9, stays bounded, and several are one."""

import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from research.serving.monitor import store
from research.serving.monitor.store import Answer, Label, Model, Request, Store
from research.util.errors import UserError

WRITER = """
import sys
from pathlib import Path
from research.serving.monitor.store import Answer, Request, Store
made = Store(Path(sys.argv[1]))
for n in range(100_000):
    ids = [f"{n}-{i}" for i in range(20)]
    made.add([Request(id, n, "/v1/predict", 200, 0.1) for id in ids], [Answer(id, 0, n, "m", "1") for id in ids])
    print(n, flush=True)
"""


def requests(numbers, name=""):
    return [Request(f"{name}{i}", float(i), "/v1/predict", 200, 0.01) for i in numbers]


def answers(numbers, size=0):
    return [Answer(str(i), 0, float(i), "digits", "1", signals=bytes(size)) for i in numbers]


def count(db, table):
    return db.execute(f"select count(*) from {table}").fetchone()[0]


@pytest.mark.parametrize("commits", [1, 40])
def test_it_survives_kill_9(tmp_path, commits):
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True)
    for _ in range(commits):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    last = max([last, *map(int, writer.stdout.read().split())])
    writer.wait()
    db = store.merged([tmp_path])
    committed = count(db, "requests") // 20
    assert committed in (last + 1, last + 2)  # what was told is there, and at most one commit that was not
    assert count(db, "requests") == count(db, "answers") == 20 * committed
    assert sqlite3.connect(tmp_path / store.FILE).execute("pragma integrity_check").fetchone() == ("ok",)
    Store(tmp_path).add(requests([1], "after"))
    assert count(store.merged([tmp_path]), "requests") == 20 * committed + 1


def test_it_keeps_the_newest_and_a_bounded_size(tmp_path):
    made = Store(tmp_path, most=1_000)
    sizes = []
    for first in range(0, 10_000, 100):
        numbers = range(first, first + 100)
        made.add(requests(numbers), answers(numbers, 200))
        made.add_labels([Label(str(i), 0, "a") for i in numbers])
        sizes.append((tmp_path / store.FILE).stat().st_size)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) - sizes[-1] < 5 << 20  # the log, and its index
    db = store.merged([tmp_path])
    assert 950 <= count(db, "requests") <= 1_000
    assert count(db, "answers") == count(db, "labels") == count(db, "requests")
    assert db.execute("select max(time), min(time) >= 9000 from requests").fetchone() == (9_999.0, 1)
    assert max(sizes[40:]) <= 1.1 * max(sizes[:40])


def test_stores_merge_by_request_id(tmp_path):
    for name, numbers in {"a": range(6), "b": range(4, 10)}.items():
        made = Store(tmp_path / name)
        made.add(requests(numbers), answers(numbers))
        made.add_model(Model("digits", "1", {"confidence": 1}, None))
    db = store.merged([tmp_path / "a", tmp_path / "b"])
    assert sorted(int(id) for (id,) in db.execute("select id from answers")) == list(range(10))
    assert count(db, "models") == 1


def test_labels_replace_and_tell_how_many_are_of_known_rows(tmp_path):
    made = Store(tmp_path)
    made.add(requests([1]), answers([1]))
    assert made.add_labels([Label("1", 0, "a"), Label("2", 0, "b")]) == 1
    assert made.add_labels([Label("1", 0, "c", "new customers")]) == 1
    assert store.merged([tmp_path]).execute("select * from labels").fetchall() == [("1", 0, "c", "new customers")]


def test_a_second_request_with_an_id_leaves_nothing(tmp_path):
    made = Store(tmp_path)
    made.add(requests([1]), answers([1]))
    made.add(requests([1, 2]), [*answers([1, 2]), Answer("1", 1, 5.0, "digits", "1")])
    found = store.merged([tmp_path]).execute("select id, row from answers order by id").fetchall()
    assert found == [("1", 0), ("2", 0)]


def test_it_is_read_while_it_is_written(tmp_path):
    made = Store(tmp_path)
    made.add(requests([1]))
    assert count(store.merged([tmp_path]), "requests") == 1
    made.add(requests([1, 2]))
    assert count(store.merged([tmp_path]), "requests") == 2


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(UserError, match="almanac serve --monitor"):
        store.merged([tmp_path])
    (tmp_path / store.FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="cannot"):
        Store(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        store.merged([tmp_path])
    other = sqlite3.connect(tmp_path / "other")
    other.execute("pragma user_version = 9")
    other.close()
    (tmp_path / "other").rename(tmp_path / store.FILE)
    with pytest.raises(UserError, match="format 9"):
        Store(tmp_path)
