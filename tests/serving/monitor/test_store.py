"""The store survives kill -9, stays bounded, and several are one."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from research.serving.monitor import store
from research.serving.monitor.captured import Captured
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Model, Request
from research.util.errors import UserError

WRITER = """
import sys
from pathlib import Path
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Request
made = Store(Path(sys.argv[1]))
for n in range(100_000):
    ids = [f"{n}-{i}" for i in range(20)]
    made.add([Request(id, n, "/v1/predict", 200, 0.1) for id in ids], [Answer(id, 0, n, "m", "1") for id in ids])
    print(n, flush=True)
"""


def requests(numbers, name=""):
    return [Request(f"{name}{i}", float(i), "/v1/predict", 200, 0.01, 1) for i in numbers]


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
        made.add_feedback([Feedback(str(i), 0, "a") for i in numbers])
        sizes.append((tmp_path / store.FILE).stat().st_size)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) - sizes[-1] < 5 << 20  # the log, and its index
    db = store.merged([tmp_path])
    assert 950 <= count(db, "requests") <= 1_000
    assert count(db, "answers") == count(db, "feedback") == count(db, "requests")
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
    assert made.add_feedback([Feedback("1", 0, "a"), Feedback("2", 0, "b")]) == 1
    assert made.add_feedback([Feedback("1", 0, "c", "new customers")]) == 1
    assert store.merged([tmp_path]).execute("select id, row, label, subgroup from feedback").fetchall() == [
        ("1", 0, "c", "new customers")
    ]


def test_later_feedback_replaces_all_that_a_row_had(tmp_path):
    made = Store(tmp_path)
    made.add(requests([1]), answers([1]))
    assert made.add_feedback([Feedback("1", 0, "a", rating=1, correction="b"), Feedback("1", 1, "a")]) == 1
    assert made.add_feedback([Feedback("1", 0, rating=-1)]) == 1
    assert store.merged([tmp_path]).execute("select * from feedback").fetchall() == [("1", 0, None, None, -1, None)]


FORMAT_1 = """
create table requests (id text primary key, time real, route text, status integer, seconds real) without rowid;
create table answers (
  id text, row integer, time real, model text, version text, queue real, prefill real, decode real, fill real,
  prompt integer, generated integer, confidence real, prediction text, signals blob, primary key (id, row)
) without rowid;
create table labels (id text, row integer, label text, subgroup text, primary key (id, row)) without rowid;
create table servers (server text, time real, memory integer, dropped integer, primary key (server, time)) without rowid;
create table models (name text, version text, layout text, reference blob, primary key (name, version)) without rowid;
create index requests_by_time on requests (time);
insert into requests values ('old', 1.0, '/v1/predict', 200, 0.1);
insert into answers (id, row, time, model, version) values ('old', 0, 1.0, 'm', '1'), ('old', 1, 1.0, 'm', '1');
insert into labels values ('old', 0, 'a', 'new customers');
insert into models values ('m', '1', '{}', null);
pragma user_version = 1;
"""


def test_a_store_of_format_1_is_read_and_upgraded_when_it_is_written(tmp_path):
    old = sqlite3.connect(tmp_path / store.FILE)
    old.executescript(FORMAT_1)
    old.close()
    read = store.merged([tmp_path], with_captured="m")
    assert read.execute("select * from feedback").fetchall() == [("old", 0, "a", "new customers", None, None)]
    assert old_version(tmp_path) == 1 and count(read, "answers") == 2
    made = Store(tmp_path)
    assert old_version(tmp_path) == 2
    assert made.add_feedback([Feedback("old", 1, correction="b"), Feedback("old", 2, "a")]) == 1
    assert store.classes_of(tmp_path, "old", 1) == [] and store.classes_of(tmp_path, "old", 2) is None
    found = store.merged([tmp_path]).execute("select row, label, correction from feedback order by row").fetchall()
    assert found == [(0, "a", None), (1, None, "b")]


def old_version(folder):
    return sqlite3.connect(folder / store.FILE).execute("pragma user_version").fetchone()[0]


def test_classes_are_those_of_the_model_that_answered(tmp_path):
    made = Store(tmp_path)
    made.add(requests([1, 2]), answers([1]))
    made.add_model(Model("digits", "1", {}, None, ("one", "two")))
    assert store.classes_of(tmp_path, "1", 0) == ["one", "two"]
    assert store.classes_of(tmp_path, "2", 0) == []  # a text that had been kept
    assert store.classes_of(tmp_path, "1", 1) is store.classes_of(tmp_path, "3", 0) is None


def bytes_of(folder):
    """Those of all files."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def fill(made, count, seed=0):
    """Rows of many sizes; a search of a file's bytes finds their ids, texts and corrections."""
    draw = random.Random(seed)
    for first in range(0, count, 5):
        numbers = range(first, first + 5)
        contents = []
        for i in numbers:
            text = (b"text%06d." % i) * draw.choice((1, 5, 50, 90, 400))
            contents.append(Captured(f"id{i:06}", 0, i, i + 1_000, len(text), "digits", "1", "text", text))
        answered = [Answer(f"id{i:06}", 0, float(i), "digits", "1", signals=bytes(100)) for i in numbers]
        made.add([Request(f"id{i:06}", float(i), "/v1/predict", 200, 0.01, 1) for i in numbers], answered, contents)
        made.add_feedback(Feedback(f"id{i:06}", 0, correction=f"right{i:06}.") for i in numbers)


def found_in(folder, word):
    return {int(digits) for digits in re.findall(rb"%s(\d{6})" % word, bytes_of(folder))}


def test_what_expires_is_in_no_file(tmp_path):
    made = Store(tmp_path)
    fill(made, 400)
    for now in (1_100, 1_250, 1_300):
        made.expire(now)
        assert found_in(tmp_path, b"text") == set(range(now - 999, 400))
    assert found_in(tmp_path, b"id") == found_in(tmp_path, b"right") == set(range(400))


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_forgotten_is_in_no_file(tmp_path, seed):
    server, made = Store(tmp_path), Store(tmp_path)  # another process has it open
    fill(server, 400, seed)
    gone = set(random.Random(seed).sample(range(400), 150))
    there, counts = made.forget([*(f"id{i:06}" for i in sorted(gone)), "id000000-", "id000001'"])
    assert len(there) == 150 and counts == dict.fromkeys(("requests", "answers", "feedback", "captured"), 150)
    for word in (b"text", b"id", b"right"):
        assert found_in(tmp_path, word) == set(range(400)) - gone
    assert server.add_feedback([Feedback(f"id{min(gone):06}", 0, rating=1)]) == 0


def test_forgetting_says_if_a_reader_keeps_the_log(tmp_path):
    made = Store(tmp_path)
    fill(made, 5)
    made._db.execute("pragma busy_timeout = 50")
    reader = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from requests").fetchall()
    with pytest.raises(UserError, match="another process reads the store"):
        made.forget(["id000001"])
    reader.execute("commit")
    assert made.forget(["id000001"])[0] == []
    assert found_in(tmp_path, b"text") == {0, 2, 3, 4}


def test_contents_are_copied_for_one_model_and_where_feedback_came(tmp_path):
    made = Store(tmp_path)
    held = [Captured(str(i), 0, i, 9, 1, "digits" if i < 3 else "talk", "1", "text", b"x") for i in range(4)]
    made.add(requests(range(4)), answers(range(4)), held)
    made.add_feedback([Feedback("1", 0, "a")])
    read = store.merged([tmp_path], with_captured="digits")
    assert read.execute("select id, input from captured order by id").fetchall() == [
        ("0", None),
        ("1", b"x"),
        ("2", None),
    ]
    assert count(store.merged([tmp_path]), "captured") == 0


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
