"""A store whose contents are sealed: no file shows them, an export is the same, and keys can be changed."""

import json

import pytest

from research.serving.monitor import captured, datasets, sealing
from research.serving.monitor.captured import Captured
from research.serving.monitor.observer import Observer
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Feedback, Model, Request
from research.util import sealed
from research.util.errors import UserError
from tools import cli

ONE, TWO = (sealed.new_key() for _ in range(2))
IDS = [f"request{i}" for i in range(250)]  # more than two transactions
QUESTION, ANSWER, CORRECTION = "where is my parcel", "it is on its way", "it was delivered"


def filled(folder):
    made = Store(folder)
    asked = {id: json.dumps([{"role": "user", "content": f"{QUESTION} of {id}"}]).encode() for id in IDS}
    made.add(
        [Request(id, 0.0, "/v1/chat/completions", 200, 0.1, 1) for id in IDS],
        [Answer(id, 0, 0.0, "talk", "1") for id in IDS],
        [Captured(id, 0, 0.0, 1e11, 1, "talk", "1", captured.CONVERSATIONS, asked[id], ANSWER) for id in IDS],
    )
    made.add_model(Model("talk", "1", {}, None, ()))
    made.add_feedback([Feedback(id, 0, correction=CORRECTION) for id in IDS[:100]])
    made.add_feedback([Feedback(id, 0, rating=1) for id in IDS[100:]])
    made.close()
    return folder


def shown(folder):
    """What can be read in the store's files."""
    blobs = b"".join(path.read_bytes() for path in folder.iterdir())
    return [text for text in (QUESTION, ANSWER, CORRECTION) if text.encode() in blobs]


def exported(folder, out):
    datasets.export([folder], "talk", out, 1.0, (captured.CONVERSATIONS,))
    return (out / "train.jsonl").read_bytes(), (out / "heldout.jsonl").read_bytes()


@pytest.fixture
def plain(tmp_path, monkeypatch):
    for name in (sealed.KEYS, sealed.KEYS_FILE):
        monkeypatch.delenv(name, raising=False)
    return filled(tmp_path / "plain")


def test_no_file_shows_what_is_sealed_and_the_export_is_the_same(plain, tmp_path, monkeypatch):
    want = exported(plain, tmp_path / "want")
    assert shown(plain) == [QUESTION, ANSWER, CORRECTION] and CORRECTION.encode() in want[0]
    monkeypatch.setenv(sealed.KEYS, ONE)
    folder = filled(tmp_path / "sealed")
    assert shown(folder) == []
    assert exported(folder, tmp_path / "set") == want


def test_a_plain_store_is_sealed_and_a_new_key_takes_over(plain, tmp_path, monkeypatch, capsys):
    want = exported(plain, tmp_path / "want")
    monkeypatch.setenv(sealed.KEYS, ONE)
    assert cli.main(["seal", str(plain)]) == 0
    assert capsys.readouterr().out == f"{plain}  350 rows sealed\n" and shown(plain) == []
    monkeypatch.setenv(sealed.KEYS, f"{TWO} {ONE}")
    assert cli.main(["seal", str(plain)]) == cli.main(["seal", str(plain)]) == 0
    assert capsys.readouterr().out == f"{plain}  350 rows sealed\n{plain}  0 rows sealed\n"
    monkeypatch.setenv(sealed.KEYS, TWO)
    assert exported(plain, tmp_path / "set") == want
    monkeypatch.setenv(sealed.KEYS, ONE)
    with pytest.raises(UserError, match="the input of request request0, row 0, is sealed with the key"):
        exported(plain, tmp_path / "other")


def test_what_was_interrupted_goes_on(plain, tmp_path, monkeypatch):
    want = exported(plain, tmp_path / "want")
    monkeypatch.setenv(sealed.KEYS, ONE)
    seal, done = sealing._seal_row, []

    def killed(*args):
        done.append(args)
        if len(done) == 130:
            raise KeyboardInterrupt
        return seal(*args)

    monkeypatch.setattr(sealing, "_seal_row", killed)
    with pytest.raises(KeyboardInterrupt):
        Store(plain).seal()
    monkeypatch.setattr(sealing, "_seal_row", seal)
    assert exported(plain, tmp_path / "mixed") == want
    assert Store(plain).seal() == 350 - 100  # the first transaction stands
    assert shown(plain) == [] and exported(plain, tmp_path / "set") == want


def test_without_the_key_nothing_is_read_and_nothing_is_captured_beside(plain, tmp_path, monkeypatch):
    monkeypatch.setenv(sealed.KEYS, ONE)
    Store(plain).seal()
    monkeypatch.delenv(sealed.KEYS)
    with pytest.raises(UserError, match="the input of request request0, row 0, is sealed: set ALMANAC_KEYS"):
        exported(plain, tmp_path / "set")
    with pytest.raises(UserError, match="what is kept there is sealed: set ALMANAC_KEYS or ALMANAC_KEYS_FILE"):
        Observer(plain)
    with pytest.raises(UserError, match="no key: set ALMANAC_KEYS"):
        Store(plain).seal()


def test_a_correction_alone_is_enough_to_want_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv(sealed.KEYS, ONE)
    made = Store(tmp_path)
    made.add([Request("a", 0.0, "/v1/completions", 200, 0.1, 1)], [Answer("a", 0, 0.0, "talk", "1")])
    made.add_feedback([Feedback("a", 0, correction=CORRECTION)])
    made.close()
    monkeypatch.delenv(sealed.KEYS)
    with pytest.raises(UserError, match="what is kept there is sealed"):
        Observer(tmp_path)
