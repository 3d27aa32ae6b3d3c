"""Sets of feedback: read, and each way in which one from elsewhere can be wrong."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from research.data import feedback_sets
from research.util.errors import UserError
from tests.data.feedback_writer import sums, write

TRAIN, HELDOUT = [("calm", "all is well"), ("unhappy", "where is it?")], [("unhappy", "still nothing")]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "set", TRAIN, HELDOUT, ("calm", "unhappy"))


@pytest.fixture
def pictures(tmp_path):
    rows = [("0", np.full((4, 4), 9))], [("1", np.full((4, 4, 3), 7))]
    return write(tmp_path / "pictures", *rows, ("0", "1"), kind="picture")


def test_a_set_is_read(folder, pictures):
    data = feedback_sets.read(folder, "text")
    assert data.classes == ("calm", "unhappy")
    assert [(row.id, row.label, row.value) for row in data.parts["train"]] == [
        (f"train-{i}", *row) for i, row in enumerate(TRAIN)
    ]
    assert [row.value for row in data.parts["test"]] == ["still nothing"]
    assert data.digest == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert [row.value for row in feedback_sets.read(pictures, "picture").parts["test"]] == ["images/heldout-0-0.png"]


def lines(folder, *rows):
    """Puts rows in place of those to train on, each {"id": "a", "row": 0, "label": "calm", "text": "hello"} but for changes."""
    usual = {"id": "a", "row": 0, "label": "calm", "text": "hello"}
    (folder / "train.jsonl").write_text("".join(json.dumps(usual | row) + "\n" for row in rows))
    sums(folder, rows={"train": len(rows), "heldout": 1})


def damage(folder):
    (folder / "train.jsonl").write_text((folder / "train.jsonl").read_text().replace("well", "lost"))


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda f: (f / "manifest.json").unlink(), "is no set of feedback: it has no manifest.json"),
        (lambda f: sums(f, format=2), "of format 2; this Almanac reads 1"),
        (lambda f: sums(f, kind="sound"), "of kind 'sound'; this experiment takes 'text'"),
        (lambda f: sums(f, classes=3), "'classes': wanted a list"),
        (lambda f: sums(f, rows={"train": 3, "heldout": 1}), "the files have"),
        (lambda f: sums(f, files={}), "train.jsonl is not among its files"),
        (lambda f: sums(f, files={"/etc/hostname": "0"}), "the path '/etc/hostname' leads out"),
        (lambda f: sums(f, files={"../set/train.jsonl/../../x": "0"}), "leads out of the folder"),
        (lambda f: sums(f, files={"gone": "0"}), "gone: no such file"),
        (damage, "train.jsonl has changed"),
        (lambda f: lines(f), "no row to train on"),
        (lambda f: lines(f, {"label": None}), "train.jsonl, line 1: 'label': wanted a text, not None"),
        (
            lambda f: lines(f, {}, {"id": "b", "label": "unhapy"}),
            "line 2: there is no class 'unhapy'; did you mean 'unhappy'?",
        ),
        (lambda f: lines(f, {"text": " "}), "line 1: no text"),
        (lambda f: lines(f, {}, {}), "row 0 of request 'a' is there twice"),
        (lambda f: lines(f, {"text": "still nothing"}), "1 values are both to train on and held out"),
    ],
)
def test_a_bad_set_is_refused(folder, edit, words):
    edit(folder)
    with pytest.raises(UserError) as caught:
        feedback_sets.read(folder, "text")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_share_of_an_epoch_repeats_rows_in_turn():
    assert feedback_sets.repeated(3, others=9, share=None).tolist() == [0, 1, 2]
    rows = feedback_sets.repeated(3, others=30, share=0.25)  # 10 of 40
    assert rows.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert feedback_sets.repeated(3, others=9, share=0.25).tolist() == [0, 1, 2]
    for share in (0.2, 1.0, float("nan")):
        with pytest.raises(
            UserError, match="data.extra_share = .*: below 1 and at least 0.250, that of 3 rows once each"
        ):
            feedback_sets.repeated(3, others=9, share=share)


def test_a_link_that_leads_out_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes((folder / "train.jsonl").read_bytes())
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of the folder"):
        feedback_sets.read(folder, "text")


def test_a_picture_of_another_form_or_place_is_refused(pictures):
    (pictures / "train.jsonl").write_text('{"id": "a", "row": 0, "label": "0", "image": "train.jsonl"}\n')
    with pytest.raises(UserError, match="'train.jsonl' is no picture of the manifest.json"):
        feedback_sets.read(sums(pictures), "picture")
    Image.new("RGBA", (4, 4)).save(pictures / "images" / "train-0-0.png")
    with pytest.raises(UserError, match="train-0-0.png is no PNG of 8 bits"):
        feedback_sets.read(sums(pictures), "picture")
