"""Records become numbers in the store, in a thread; a full queue drops them, and says how many."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from research.serving.jobs import Finished, Token
from research.serving.monitor import observer, signals, store
from research.serving.monitor.observer import Observer
from research.serving.monitor.record import Record
from research.util.errors import UserError

CODEC = SimpleNamespace(inputs={"image": (("b", 4, 4, 1), "float32")}, classes=("cat", "dog"))
SERVABLE = SimpleNamespace(name="pets", version="pets@3", predictor=SimpleNamespace(codec=CODEC), reference=None)


def record(id="a", rows=2):
    made = Record(id, route="/v1/predict", status=200, seconds=0.5)
    inputs = {"image": np.random.default_rng(0).random((rows, 4, 4, 1)).astype(np.float32)}
    part = made.rows(SERVABLE, inputs)
    part.timing.came, part.timing.began, part.timing.first, part.timing.fill = 1.0, 1.5, 1.75, 0.25
    part.outputs = {"probabilities": np.tile(np.array([0.2, 0.8], np.float32), (rows, 1))}
    return made, inputs


def stored(folder, *records):
    watch = Observer(folder)
    watch.start()
    for each in records:
        watch.put(each)
    watch.close()
    return store.merged([folder])


def test_a_prediction_leaves_numbers_for_each_row(tmp_path):
    made, inputs = record()
    db = stored(tmp_path, made)
    assert db.execute("select id, route, status, seconds from requests").fetchall() == [("a", "/v1/predict", 200, 0.5)]
    rows = db.execute("select row, queue, prefill, fill, confidence, prediction, signals from answers").fetchall()
    assert [row[:4] for row in rows] == [(0, 0.5, 0.25, 0.25), (1, 0.5, 0.25, 0.25)]
    assert rows[0][4] == pytest.approx(0.8) and rows[0][5] == "dog"
    found = signals.of_inputs(CODEC, inputs)
    (layout,) = db.execute("select layout from models").fetchone()
    numbers = np.frombuffer(rows[1][6], "<f4")
    assert '"image brightness": 1' in layout
    first = 2 + 1  # class has two numbers, confidence one
    assert numbers[first] == found["image brightness"][1, 0]


def test_a_text_leaves_its_latencies_tokens_and_confidence(tmp_path):
    made = Record("b", route="/v1/completions", status=200)
    text = made.text(SERVABLE, 7)
    text.timing.began = text.timing.came + 1
    for p in (0.5, 0.125):
        text.take(Token(1, float(np.log(p)), np.zeros(1), np.zeros(1)))
    text.take(Finished("stop"))
    db = stored(tmp_path, made)
    names = "prompt, generated, confidence, queue, decode"
    prompt, generated, confidence, waited, decode = db.execute(f"select {names} from answers").fetchone()
    assert (prompt, generated, confidence) == (7, 2, pytest.approx(0.25))  # the root of 1/2 x 1/8
    assert waited == pytest.approx(1) and decode >= 0


def test_a_refused_request_leaves_its_status_alone(tmp_path):
    made = Record("c", route="/v1/predict", status=422)
    made.rows(SERVABLE, {"no such input": np.zeros((1, 2))})
    db = stored(tmp_path, made)
    assert db.execute("select status from requests").fetchall() == [(422,)]
    assert db.execute("select count(*) from answers").fetchone() == (0,)


def test_a_full_queue_never_waits_and_is_counted(tmp_path):
    watch = Observer(tmp_path, waiting=3)  # whose thread has not started
    start = time.monotonic()
    for i in range(10):
        watch.put(record(str(i))[0])
    assert time.monotonic() - start < 1 and watch.dropped == 7
    watch.start()
    watch.close()
    db = store.merged([tmp_path])
    assert db.execute("select count(*) from requests").fetchone() == (3,)
    assert db.execute("select dropped, memory > 1000000 from servers").fetchone() == (7, 1)


def test_what_cannot_be_measured_is_counted_and_the_thread_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(observer, "TOGETHER", 1)
    bad, _ = record("bad")
    bad.parts[0].outputs = {"probabilities": np.zeros((0, 2))}
    watch = Observer(tmp_path)
    watch.start()
    watch.put(bad)
    watch.put(record("good")[0])
    watch.close()
    assert store.merged([tmp_path]).execute("select id from requests").fetchall() == [("good",)]
    assert watch.dropped == 1 and "lost 1 requests" in caplog.text


def test_a_folder_that_cannot_be_written_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot keep requests"):
        Observer(tmp_path / "file")
