"""Labelled clips: a user's folder, its parts and report; what means nothing is refused."""

import numpy as np
import pytest
from PIL import Image

from research.data.video import labelled
from research.util.errors import UserError


def save(path, frames, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.new("L", (side, side), 40 * i) for i in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def load(path, **more):
    return labelled.load({"source": "files", "path": str(path), **more}, 0)


def test_a_folder_for_each_class(tmp_path):
    for i in range(10):
        save(tmp_path / "b" / f"{i}.gif", 3)
        save(tmp_path / "a" / f"{i}.gif", 4)
    save(tmp_path / "a" / "still.gif", 1)
    (tmp_path / "a" / "notes.txt").write_text("x")
    videos = load(tmp_path, channels=1)
    assert videos.classes == ("a", "b") and videos.shape == (8, 8, 1)
    assert {part: len(clips) for part, clips in videos.parts.items()} == {"valid": 2, "test": 2, "train": 16}
    train = videos.parts["train"]
    assert {train.length(i) for i in np.flatnonzero(train.labels() == 1)} == {3}
    assert train.frames(0, np.arange(2)).ravel()[[0, -1]].tolist() == [0, 40]
    assert "frames   3 to 4 a clip" in videos.report
    assert ["skipped  1", "         a/still.gif: one frame; a clip has two or more"] == videos.report[-3:-1]
    assert "1 .txt" in videos.report[-1]


def test_parts_that_are_given_and_frames_of_a_size(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")):
        save(tmp_path / part / name / "0.gif", 2)
    for i in range(3):
        save(tmp_path / "train" / "b" / "folder" / f"{i}.png", 1, side=16)
    videos = load(tmp_path, size=(4, 6))
    assert {part: clips.labels().tolist() for part, clips in videos.parts.items()} == {
        "train": [0, 1, 1], "valid": [0], "test": [1],
    }  # fmt: skip
    assert videos.parts["train"].frames(2, np.arange(3)).shape == (3, 4, 6, 3)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"source": "film"}, "no source of clips 'film'"),
        ({"source": "digits_motion", "size": 7}, "data.size = 7"),
        ({"source": "digits_motion", "size": (16, 16)}, r"data.size = \(16, 16\)"),
        ({"source": "digits_motion", "length": 1}, "data.length = 1: at least 2 frames"),
        ({"source": "digits_motion", "count": 0}, "data.count = 0"),
        ({"path": "FOLDER"}, "no clip found .loose.gif: not in a class folder"),
        ({"path": "FOLDER/loose.gif"}, "want a folder with a folder for each class"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path, change, words):
    save(tmp_path / "loose.gif", 3)
    change = {key: value.replace("FOLDER", str(tmp_path)) if key == "path" else value for key, value in change.items()}
    with pytest.raises(UserError, match=words):
        labelled.load({"source": "files", **change}, 0)
