"""Feedback on answers that are stored, on those that still wait, and on none; what is captured of each kind of request."""

import asyncio
import base64
import io
import json
import time
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest
from PIL import Image

from research.serving.monitor import performance, store
from research.serving.monitor.observer import Observer
from research.serving.web import app, served, trace
from research.serving.web.answers import Answers

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)


def sent(picture):
    Image.fromarray(picture).save(file := io.BytesIO(), "PNG")
    return {"image": base64.b64encode(file.getvalue()).decode()}


KIND = {"content-type": "application/json"}
DIGITS = {"model": "digits", "inputs": [sent(picture) for picture in PICTURES]}
CHAT = {
    "model": "talk", "messages": [{"role": "user", "content": "I am ada@b.org"}], "max_tokens": 8, "temperature": 0,
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "boolean"}}},
}  # fmt: skip


@pytest.fixture
def watched(server, tmp_path):
    """post(path, json, headers) -> answer, and the observer that it tells; it begins to write when a test starts it."""
    observer = Observer(tmp_path, capture_days=1)
    made = app.create(server.models, served.Limits(), observer=observer)

    def post(path, body, headers=None):
        async def call():
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=made), base_url="http://test") as client:
                return await client.post(path, content=json.dumps(body), headers={**KIND, **(headers or {})})

        return asyncio.run(call())

    yield SimpleNamespace(post=post, observer=observer, folder=tmp_path, app=made)
    observer.close()


def write(observer):
    observer.start()
    observer.close()


def feedback(watched):
    return store.merged([watched.folder]).execute("select * from feedback order by row").fetchall()


def test_feedback_on_what_is_not_yet_stored_comes_after_it(watched):
    id = watched.post("/v1/predict", DIGITS).headers["x-request-id"]
    said = watched.post("/v1/feedback", {"request_id": id, "row": 2, "label": "7", "subgroup": "new"})
    assert (said.status_code, said.json()) == (202, {"request_id": id, "row": 2})
    watched.post("/v1/feedback", {"request_id": id, "label": "1", "rating": 1})
    watched.post("/v1/feedback", {"request_id": id, "correction": "call 030 1234567"})  # replaces it
    assert feedback(watched) == []
    write(watched.observer)
    assert feedback(watched) == [(id, 0, None, None, None, "call [phone]"), (id, 2, "7", "new", None, None)]
    assert performance.measure(store.merged([watched.folder]), "digits", "digits@0")["labels"] == 1


def test_feedback_on_what_is_stored(watched, server, tmp_path):
    id = watched.post("/v1/predict", DIGITS).headers["x-request-id"]
    write(watched.observer)
    again = Observer(tmp_path)  # after a restart
    watched.app = app.create(server.models, served.Limits(), observer=again)
    assert again.classes_of(id, 2) == [str(i) for i in range(10)]
    assert again.classes_of(id, 3) is None


@pytest.mark.parametrize("stored", [False, True])
def test_what_cannot_be_is_refused_by_name(watched, stored):
    id = watched.post("/v1/predict", DIGITS).headers["x-request-id"]
    refused = watched.post("/v1/predict", {"model": "digits", "inputs": ["text"]}).headers["x-request-id"]
    talked = watched.post("/v1/chat/completions", CHAT).headers["x-request-id"]
    if stored:
        write(watched.observer)
    for body, status, code, param, words in (
        ({"request_id": "nobody", "rating": 1}, 404, "request_not_found", "request_id", "no answer with this"),
        ({"request_id": id, "row": 3, "rating": 1}, 404, "request_not_found", "request_id", "row 3"),
        ({"request_id": refused, "rating": 1}, 404, "request_not_found", "request_id", "row 0"),
        ({"request_id": id, "label": "seven"}, 422, "unknown_class", "label", "no class 'seven'; known: 0, 1"),
        ({"request_id": id, "label": "77"}, 422, "unknown_class", "label", "no class '77'; did you mean '7'?"),
        ({"request_id": talked, "label": "7"}, 422, "unknown_class", "label", "no classes to choose from"),
        ({"request_id": id}, 422, "missing_field", None, "want one of label, rating, correction"),
        ({"request_id": id, "subgroup": "new"}, 422, "missing_field", None, "want one of"),
        ({"request_id": id, "rating": 0}, 422, "invalid_value", "rating", "want -1 or 1"),
        ({"request_id": id, "rating": True}, 422, "invalid_value", "rating", "integer"),
        ({"request_id": id, "correction": "a" * 20_001}, 422, "invalid_value", "correction", "20000"),
        ({"request_id": id, "correction": "half \ud800"}, 422, "invalid_value", "correction", "string"),
        ({"request_id": "../x", "rating": 1}, 422, "invalid_value", "request_id", "pattern"),
        ({"request_id": id, "row": -1, "rating": 1}, 422, "invalid_value", "row", "greater"),
        ({"request_id": id, "stars": 5}, 422, "unknown_field", "stars", "Extra"),
    ):  # fmt: skip
        answer = watched.post("/v1/feedback", body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param), (body, error)
        assert words in error["message"]
    assert feedback(watched) == []


def test_without_a_monitor_there_is_no_such_route(client):
    answer = client.post("/v1/feedback", json={"request_id": "a", "rating": 1})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"


def test_a_full_queue_refuses_feedback(watched):
    id = watched.post("/v1/predict", DIGITS).headers["x-request-id"]
    answers = [watched.post("/v1/feedback", {"request_id": id, "rating": 1}).status_code for _ in range(200)]
    assert answers[0] == 202 and answers[-1] == 429  # each leaves a record of itself, too
    write(watched.observer)
    assert feedback(watched) == [(id, 0, None, None, 1, None)]


def test_the_description_has_an_example_that_is_taken(watched):
    example = watched.app.openapi()["components"]["schemas"]["FeedbackRequest"]["example"]
    watched.post("/v1/predict", DIGITS, {"x-request-id": example["request_id"]})
    assert watched.post("/v1/feedback", example | {"label": "3"}).status_code == 202


def test_an_answer_is_known_before_its_last_bytes_leave(tmp_path):
    """Of an application that streams two chunks, what is known of it when each message is sent."""
    observer, known = Observer(tmp_path), []

    async def streams(scope, receive, send):
        trace.current().repeated(None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        known.append(observer.classes_of("mine", 0))

    scope = {"type": "http", "method": "POST", "headers": [(b"x-request-id", b"mine")]}
    asyncio.run(trace.Traced(streams, observer)(scope, None, send))
    assert known == [None, None, []]
    assert observer._queue.qsize() == 1  # once


def captured(watched, model):
    query = "select id, row, kind, input, output from captured order by time, id, row"
    db = store.merged([watched.folder])
    db.execute("attach ? as one", (str(watched.folder / store.FILE),))
    return db.execute(query.replace("captured", "one.captured where model = ?", 1), (model,)).fetchall()


def test_pictures_and_conversations_are_captured(watched, server, monkeypatch):
    (talk,) = [model for model in server.models.loaded if model.servable.name == "talk"]
    monkeypatch.setattr(talk, "answers", Answers(100))
    id = watched.post("/v1/predict", DIGITS).headers["x-request-id"]
    asked = [CHAT, CHAT, {**CHAT, "stream": True}]  # the second and the third are answered from what is kept
    chats = [watched.post("/v1/chat/completions", body) for body in asked]
    said = chats[0].json()["choices"][0]["message"]["content"]
    assert said in ("true", "false") and talk.answers.hits == 2
    text = {"model": "talk", "prompt": "The order", "max_tokens": 3, "seed": 1}
    cut = [watched.post("/v1/completions", {**text, "stream": stream}) for stream in (False, True)]
    assert cut[0].json()["choices"][0]["finish_reason"] == "length"
    watched.post("/v1/completions", {**text, "prompt": [65, 66]})  # token ids
    for chat in chats:
        assert (
            watched.post("/v1/feedback", {"request_id": chat.headers["x-request-id"], "rating": 1}).status_code == 202
        )
    write(watched.observer)

    rows = captured(watched, "digits")
    assert [row[:3] for row in rows] == [(id, i, "picture") for i in range(3)]
    for row, picture in zip(rows, PICTURES, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row[3]))), picture)
    rows = {row[0]: row[1:] for row in captured(watched, "talk")}
    for chat in chats:
        row, kind, messages, reply = rows.pop(chat.headers["x-request-id"])
        assert (row, kind, reply) == (0, "conversations", said)
        assert json.loads(messages) == [{"role": "user", "content": "I am [e-mail]"}]
    for answer in cut:
        _, _, messages, reply = rows.pop(answer.headers["x-request-id"])
        assert (json.loads(messages), reply) == ([{"role": "user", "content": "The order"}], "")
    assert rows == {} and len(feedback(watched)) == 3


def test_whoever_has_an_answer_may_give_feedback_while_the_monitor_writes(watched, monkeypatch):
    write_slowly = watched.observer._write
    monkeypatch.setattr(watched.observer, "_write", lambda *args: (time.sleep(0.05), write_slowly(*args)))
    watched.observer.start()

    async def one(client):
        answer = await client.post("/v1/predict", json={"model": "digits", "inputs": DIGITS["inputs"][:1]})
        assert answer.status_code == 200
        said = {"request_id": answer.headers["x-request-id"], "rating": 1}
        return [(await client.post("/v1/feedback", json=said)).status_code for _ in range(3)]

    async def call():
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=watched.app), base_url="http://test"
        ) as client:
            return [await asyncio.gather(*(one(client) for _ in range(4))) for _ in range(10)]

    statuses = np.array(asyncio.run(call()))
    watched.observer.close()
    assert statuses.shape == (10, 4, 3) and (statuses == 202).all()
    assert len(feedback(watched)) == 40


def test_without_capture_nothing_is(watched, tmp_path, server):
    observer = Observer(tmp_path / "numbers")
    made = app.create(server.models, served.Limits(), observer=observer)

    async def call():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=made), base_url="http://test") as client:
            return await client.post("/v1/chat/completions", json=CHAT)

    assert asyncio.run(call()).status_code == 200
    write(observer)
    assert all(b"I am" not in path.read_bytes() for path in (tmp_path / "numbers").iterdir())
