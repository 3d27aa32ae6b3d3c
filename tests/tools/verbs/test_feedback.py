"""`almanac feedback`: what it prints, and what it deletes."""

import json

import pytest

from research.serving.monitor import store
from research.serving.monitor.captured import Captured
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Model, Request
from tools import cli


@pytest.fixture
def folder(tmp_path):
    made = Store(tmp_path / "store")
    ids = ["a", "g", "t", "c"]
    made.add(
        [Request(id, 0.0, "/v1/predict", 200, 0.1, 1) for id in ids],
        [Answer(id, 0, 0.0, "topics", "1") for id in ids],
        [Captured(id, 0, 0.0, 1e11, 1, "topics", "1", "text", f"text of {id}".encode()) for id in ids],
    )
    made.add_model(Model("topics", "1", {}, None, ("calm", "angry\x1b")))
    made.add_feedback([Feedback("a", 0, "calm"), Feedback("g", 0, "angry\x1b"), Feedback("t", 0, "calm")])
    made.close()
    return tmp_path / "store"


def test_it_prints_the_rows_by_class_and_side(folder, tmp_path, capsys):
    assert cli.main(["feedback", "export", str(folder), "--model=topics", f"--out={tmp_path / 'set'}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said[:4]] == [
        ["train", "held", "out"], ["angry\\x1b", "1", "0"], ["calm", "1", "1"], ["all", "2", "1"],
    ]  # fmt: skip
    assert said[4] == "left out: 1 without feedback" and said[5].startswith("sha256 ")
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["rows"] == {"train": 2, "heldout": 1}


def test_it_forgets_requests_by_name_and_by_file(folder, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("t\n\n nobody \n")
    assert cli.main(["feedback", "forget", str(folder), "a", f"--file={tmp_path / 'ids.txt'}"]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 requests were there, and are deleted: 2 answers, 2 captured, 2 feedback" in said
    assert "data sets that were exported before still have their rows" in said
    left = b"".join(path.read_bytes() for path in folder.iterdir())
    assert [b"text of %s" % id in left for id in (b"a", b"g", b"c", b"t")] == [False, True, True, False]


def test_mistakes(folder, tmp_path, capsys):
    for argv, words in {
        ("export", str(tmp_path), "--model=topics", "--out=x"): f"there is no {store.FILE}",
        ("export", str(folder), "--model=topic", "--out=x"): "did you mean 'topics'?",
        ("export", str(folder), "--model=topics", "--out=x", "--kind=conversations"): "leave --kind out",
        ("forget", str(folder)): "no request to forget",
        ("forget", str(tmp_path), "a"): f"there is no {store.FILE}",
        ("forget", str(folder), f"--file={tmp_path / 'none'}"): "cannot read",
    }.items():
        assert cli.main(["feedback", *argv]) == 2
        assert words in capsys.readouterr().err
