"""Batches of labelled images, and a set of feedback beside them."""

import numpy as np
import pytest

from research.core import config, evaluation
from research.data.images import classification
from research.run import identity, reopen
from research.serving.packing import fingerprint
from research.util.errors import UserError
from tests.data.feedback_writer import write

DIGITS = tuple("0123456789")


def load(*changes):
    return classification.load(config.load("image_classification/tiny", changes).data, 0)


def feedback(folder, classes=DIGITS):
    """Two pictures to train on, of other sizes and forms than the digits, and one that is held out."""
    train = [("7", np.full((16, 16), 51)), ("3", np.stack([np.full((8, 8), v) for v in (255, 255, 255)], -1))]
    return write(folder, train, [("7", np.full((8, 8), 102))], classes, kind="picture")


def test_without_a_set_the_batches_are_those_of_a_config_that_has_no_such_key():
    cfg = config.load("image_classification/tiny")
    assert cfg.data.extra is None
    old = {key: value for key, value in config.plain(cfg.data).items() if key != "extra"}
    ours, before = load(), classification.load(old, 0)
    for step in (0, 200):
        for name, array in ours.train.batch(step).items():
            np.testing.assert_array_equal(array, before.train.batch(step)[name])
    assert list(ours.evals) == list(before.evals) == ["valid", "test"] and ours.report == before.report


def test_a_set_is_trained_on_and_what_it_holds_out_is_a_split(tmp_path):
    folder, base = feedback(tmp_path / "set"), load()
    data = load(f"data.extra={folder}")
    count = len(base.training)
    assert len(data.training) == count + 2 and list(data.evals) == ["valid", "test", "new"]
    batch = data.training.gather(np.array([count - 1, count, count + 1]), 0)
    np.testing.assert_array_equal(batch["image"][0], base.training.gather(np.array([count - 1]), 0)["image"][0])
    assert batch["label"][1:].tolist() == [7, 3] and batch["image"].shape == (3, 8, 8, 1)
    np.testing.assert_allclose(batch["image"][1:, ..., 0], np.stack([np.full((8, 8), v) for v in (0.2, 1.0)]))
    new = data.evals["new"].batch(0)
    assert new["mask"].sum() == 1 and new["label"][0] == 7 and new["image"][0].mean() == pytest.approx(0.4)
    epoch = np.concatenate([data.train.batch(step)["image"] for step in range(-(-(count + 2) // 16))])
    assert not (epoch == np.float32(0.4)).all((1, 2, 3)).any()  # what is held out is never trained on
    assert len(data.report[-1].split()[1]) == 64


def test_a_share_of_each_epoch_is_of_the_set(tmp_path):
    data, count = load(f"data.extra={feedback(tmp_path / 'set')}", "data.extra_share=0.5"), len(load().training)
    labels = data.training.labels()
    assert len(labels) == 2 * count and np.bincount(labels[count:]).tolist() == [
        0,
        0,
        0,
        count // 2,
        0,
        0,
        0,
        count - count // 2,
    ]
    with pytest.raises(UserError, match="data.extra_share = 0.0"):
        load(f"data.extra={tmp_path / 'set'}", "data.extra_share=0.0")


def test_the_split_is_measured_and_chosen_by_only_if_the_config_says_so(tmp_path):
    changes = [f"data.extra={feedback(tmp_path / 'set')}"]
    e = reopen.build("image_classification/tiny", config.load("image_classification/tiny", changes))
    assert "new" in evaluation.intervals(e) and e.cfg.best["metric"] == "valid/accuracy"
    plain = reopen.build("image_classification/tiny", config.load("image_classification/tiny"))
    assert fingerprint(e) != fingerprint(plain)
    assert identity.digest(e.cfg.to_dict()) != identity.digest(plain.cfg.to_dict())


def test_a_class_that_the_experiment_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match="the set's class '0' is none that the model has"):
        load(f"data.extra={feedback(tmp_path / 'set')}", "data.classes=3,7")


def test_no_set_and_one_of_texts_are_refused(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/nowhere is no set of feedback"):
        load(f"data.extra={tmp_path / 'nowhere'}")
    folder = write(tmp_path / "texts", [("3", "three")], [], DIGITS)
    with pytest.raises(UserError, match="of kind 'text'; this experiment takes 'picture'"):
        load(f"data.extra={folder}")
