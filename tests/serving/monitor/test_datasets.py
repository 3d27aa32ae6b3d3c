"""Data sets of feedback: what is in them by hand, which side it is on, that they repeat, and why there is none."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from research.data import user_files
from research.data.text import conversations
from research.serving.monitor import datasets
from research.serving.monitor.captured import Captured
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Model, Request
from research.util.errors import UserError

NOW = 1_000.0
TRAIN, HELD_OUT = ["a", "g", "c", "h", "f"], ["t", "x"]  # sha256(id) mod 5, which the first test checks


def fill(folder, contents, feedback, kind="text", model="topics", until=NOW + 1):
    """A store with {id: input, or (input, output)} and feedback on rows 0, which are asked in this order."""
    made = Store(folder)
    rows = []
    for second, (id, content) in enumerate(contents.items()):
        held, output = content if isinstance(content, tuple) else (content, None)
        rows.append(Captured(id, 0, float(second), until, len(held), model, "1", kind, held, output))
    made.add(
        [Request(id, 0.0, "/v1/predict", 200, 0.1, 1) for id in contents],
        [Answer(id, 0, 0.0, model, "1", prediction="calm") for id in contents],
        rows,
    )
    made.add_model(Model(model, "1", {}, None, () if kind == "conversations" else ("angry", "calm")))
    made.add_feedback(feedback)
    made.close()
    return folder


def export(folder, out, model="topics", **options):
    return datasets.export([folder], model, out, NOW, **options)


def lines(out, side):
    return [json.loads(line) for line in (out / f"{side}.jsonl").read_text("utf-8").splitlines()]


def png(value):
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.fixture
def texts(tmp_path):
    contents = {id: f"text of {id}".encode() for id in (*TRAIN, *HELD_OUT)}
    labels = [Feedback(id, 0, "angry" if id in "at" else "calm") for id in contents]
    return fill(tmp_path / "store", contents, labels)


def test_texts_and_their_labels(texts, tmp_path):
    for id in (*TRAIN, *HELD_OUT):
        assert (int.from_bytes(hashlib.sha256(id.encode()).digest()) % 5 == 0) == (id in HELD_OUT)
    report = export(texts, out := tmp_path / "set")
    assert lines(out, "train")[:2] == [
        {"id": "a", "row": 0, "label": "angry", "text": "text of a"},
        {"id": "g", "row": 0, "label": "calm", "text": "text of g"},
    ]
    assert [row["id"] for row in lines(out, "train")] == TRAIN
    assert [row["id"] for row in lines(out, "heldout")] == HELD_OUT
    assert report.groups == {"angry": [1, 1], "calm": [4, 1]} and report.left_out == {}
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert report.digest == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    sums = manifest.pop("files")
    assert sums == {n: hashlib.sha256((out / n).read_bytes()).hexdigest() for n in ("heldout.jsonl", "train.jsonl")}
    assert manifest == {
        "format": 1, "kind": "text", "model": "topics", "versions": ["1"], "classes": ["angry", "calm"],
        "rows": {"train": 5, "heldout": 2}, "from": "1970-01-01T00:00:00+00:00", "until": "1970-01-01T00:00:06+00:00",
        "created": "1970-01-01T00:16:40+00:00",
    }  # fmt: skip


def test_the_same_store_gives_the_same_bytes(texts, tmp_path):
    datasets.export([texts], "topics", tmp_path / "one", 500.0)
    datasets.export([texts, texts], "topics", tmp_path / "two", 600.0)
    for name in ("train.jsonl", "heldout.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("one", "two"))
    assert one.pop("created") != two.pop("created") and one == two


def test_equal_contents_lie_on_the_side_of_the_oldest(tmp_path):
    contents = {"a": b"one", "t": b"one", "x": b"two", "g": b"two", "c": b"three"}
    folder = fill(tmp_path / "store", contents, [Feedback(id, 0, "calm") for id in contents])
    export(folder, out := tmp_path / "set")
    assert [row["id"] for row in lines(out, "train")] == ["a", "t", "c"]
    assert [row["id"] for row in lines(out, "heldout")] == ["x", "g"]


def test_pictures_are_files_and_equal_if_their_pixels_are(tmp_path):
    Image.open(io.BytesIO(png(1))).save(other := io.BytesIO(), "PNG", compress_level=0)
    contents = {"a": png(1), "t": other.getvalue(), "g": b"no picture", "x": png(3)}
    assert contents["a"] != contents["t"]
    folder = fill(tmp_path / "store", contents, [Feedback(id, 0, "calm") for id in contents], kind="picture")
    report = export(folder, out := tmp_path / "set")
    assert report.left_out == {"with contents that cannot be read": 1}
    assert [row["image"] for row in lines(out, "train")] == ["images/a-0.png", "images/t-0.png"]
    assert [row["image"] for row in lines(out, "heldout")] == ["images/x-0.png"]
    assert (out / "images/t-0.png").read_bytes() == contents["t"]
    assert set(json.loads((out / "manifest.json").read_bytes())["files"]) == {
        "train.jsonl", "heldout.jsonl", "images/a-0.png", "images/t-0.png", "images/x-0.png",
    }  # fmt: skip


def test_what_is_left_out_is_counted_by_its_reason(tmp_path):
    contents = {id: id.encode() for id in ("a", "g", "c", "h", "../e")}
    labels = [
        Feedback("a", 0, "calm"),
        Feedback("g", 0, rating=1),
        Feedback("c", 0, "Calm"),
        Feedback("../e", 0, "calm"),
    ]
    folder = fill(tmp_path / "store", contents, labels)
    fill(folder, {"old": b"old"}, [Feedback("old", 0, "calm")], until=NOW)
    report = export(folder, tmp_path / "set")
    assert report.left_out == {
        "without a label": 1, "with a label that is no class of the model": 1, "without feedback": 1,
        "with an id that no server gave": 1, "kept for longer than its days": 1,
    }  # fmt: skip
    assert report.groups == {"calm": [1, 0]}
    assert list(tmp_path.glob("**/*.png")) == []


def test_corrections_and_good_answers_become_conversations(tmp_path):
    def asked(text, *before):
        return json.dumps([*before, {"role": "user", "content": text}]).encode()

    system = {"role": "system", "content": "Be kind."}
    contents = {
        "a": (asked("Hi", system), "Hello"), "g": (asked("Hi there"), "No"), "c": (asked("Bye"), "No"),
        "h": (json.dumps([{"role": "assistant", "content": "I begin"}]).encode(), "So"), "t": (asked("Ho"), "Ho"),
        "f": (asked("Empty"), ""),
    }  # fmt: skip
    feedback = [
        Feedback("a", 0, rating=1), Feedback("g", 0, rating=-1, correction="Welcome"), Feedback("c", 0, rating=-1),
        Feedback("h", 0, rating=1), Feedback("t", 0, rating=1, correction="Hey"), Feedback("f", 0, rating=1),
    ]  # fmt: skip
    folder = fill(tmp_path / "store", contents, feedback, kind="conversations", model="talk")
    report = export(folder, out := tmp_path / "set", model="talk", kinds=(datasets.CONVERSATIONS,))
    said = {"role": "assistant", "content": "Hello"}
    assert lines(out, "train")[0] == {"messages": [system, {"role": "user", "content": "Hi"}, said]}
    assert report.groups == {"corrected": [1, 1], "rated 1": [1, 0]}
    assert report.left_out == {
        "neither corrected nor rated 1": 1, "of messages that do not take turns": 1,
        "rated 1, but empty or cut at its length": 1,
    }  # fmt: skip
    data = conversations.files({"path": str(out / "train.jsonl"), "source": "conversations"})  # as the family reads it
    assert [each.reply for each in (*data.train, *data.valid)] == ["Hello", "Welcome"]
    assert len(data.report) == 1  # no key is ignored
    (held_out,) = user_files.json_lines((out / "heldout.jsonl").read_text())
    assert held_out[1]["messages"][-1]["content"] == "Hey"


def test_without_a_row_it_says_what_is_missing_and_writes_nothing(texts, tmp_path):
    bare = Store(tmp_path / "bare")
    bare.add([Request("a", 0.0, "/v1/predict", 200, 0.1, 1)], [Answer("a", 0, 0.0, "topics", "1")])
    unlabelled = fill(tmp_path / "unlabelled", {"a": b"a", "g": b"g"}, [Feedback("g", 0, rating=-1)])
    held_out = fill(tmp_path / "heldout", {"t": b"t"}, [Feedback("t", 0, "calm")])
    both = fill(fill(tmp_path / "both", {"a": b"a"}, []), {"g": png(1)}, [], kind="picture")
    before = sorted(
        path for path in tmp_path.rglob("*") if path.suffix != ".sqlite-shm" and path.suffix != ".sqlite-wal"
    )
    for folder, model, options, words in (
        (tmp_path / "bare", "topics", {}, "nothing that topics was asked is captured: it was served without --capture"),
        (texts, "topic", {}, "it was not served; did you mean 'topics'?"),
        (
            unlabelled,
            "topics",
            {},
            "no row of topics to train on: 1 captured without a label; 1 captured without feedback",
        ),
        (held_out, "topics", {}, "no row of topics to train on: 1 held out, and more are needed"),
        (both, "topics", {}, "several kinds, picture and text"),
        (texts, "topics", {"kinds": (datasets.CONVERSATIONS,)}, "is of kind text: leave --kind out"),
    ):
        with pytest.raises(UserError, match=words.replace("?", r"\?")):
            export(folder, tmp_path / "set", model, **options)
    with pytest.raises(UserError, match="exists, and a data set is never changed"):
        export(texts, tmp_path / "bare")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export(texts, tmp_path / "file" / "set")
    (tmp_path / "file").unlink()
    after = sorted(
        path for path in tmp_path.rglob("*") if path.suffix != ".sqlite-shm" and path.suffix != ".sqlite-wal"
    )
    assert after == before
