"""What is captured is bounded in rows and in bytes: the oldest make room."""

import sqlite3

import pytest

from research.serving.monitor import captured
from research.serving.monitor.captured import Captured


@pytest.fixture
def db():
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(captured.SCHEMA)
    return made


def rows(numbers, size=10):
    return [Captured(f"{i:03}", 0, float(i), i + 50.0, size, "m", "1", "text", bytes(size)) for i in numbers]


def ids(db):
    return [int(id) for (id,) in db.execute("select id from captured order by id")]


def test_the_newest_rows_are_kept(db):
    captured.add(db, rows(range(100)), most=100)
    assert ids(db) == list(range(100))
    captured.add(db, rows([100]), most=100)
    assert ids(db) == list(range(6, 101))  # 95 of 100, so that not every row deletes one


def test_the_newest_bytes_are_kept(db):
    captured.add(db, rows(range(20)), most_bytes=200)
    assert ids(db) == list(range(20))
    captured.add(db, rows([20]), most_bytes=200)
    assert ids(db) == list(range(2, 21))  # 190 of 200 bytes


def test_rows_expire_one_by_one(db):
    captured.add(db, rows(range(5)))
    assert captured.expire(db, 49.0) == 0
    assert captured.expire(db, 52.0) == 3
    assert ids(db) == [3, 4]


def test_a_row_is_captured_once(db):
    captured.add(db, rows([1], size=3))
    captured.add(db, rows([1], size=9))
    assert db.execute("select size from captured").fetchall() == [(3,)]
