"""Verification: classes are held out, batches have several pictures of a class, runs are scored, bad input."""

import jax
import numpy as np
import pytest

from experiments.verification import data, train
from experiments.verification.configs import tiny
from research.core import config
from research.util.errors import UserError


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def test_no_class_is_in_two_parts():
    names = [f"class {i}" for i in range(20)]
    parts = data.divide(names, 0.2, 0.3)
    assert [len(parts[part]) for part in ("train", "valid", "test")] == [10, 4, 6]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(20))
    more = data.divide([*names, "class 20"], 0.2, 0.3)  # one class more moves few of them
    assert sum(len(np.setdiff1d(parts[part], more[part])) for part in parts) <= 3


def test_a_batch_holds_several_pictures_of_each_class_and_is_a_function_of_its_step():
    images = np.arange(50, dtype=np.float32).reshape(50, 1, 1, 1)
    source = data.OfClasses(data.Pictures(images, np.arange(50) % 5), np.array([0, 1, 3, 4]))
    batches = data.SeveralOfEach(source, batch_size=9, per_class=3, seed=1)
    batch = batches.batch(7)
    assert sorted(np.unique(batch["label"], return_counts=True)[1]) == [3, 3, 3]
    old = np.array([0, 1, 3, 4])[batch["label"]]
    np.testing.assert_array_equal(batch["image"].ravel() % 5, old)
    assert len(np.unique(batch["image"])) == 9
    for name, rows in batches.batch(7, slice(3, 6)).items():
        np.testing.assert_array_equal(rows, batch[name][3:6])
    assert (batches.batch(8)["image"] != batch["image"]).any()


def test_a_class_of_few_pictures_is_drawn_with_repeats():
    source = data.OfClasses(data.Pictures(np.zeros((5, 1, 1, 1)), np.array([0, 0, 1, 1, 1])), np.arange(2))
    assert np.bincount(data.SeveralOfEach(source, 6, 3, 0).batch(0)["label"]).tolist() == [3, 3]


def test_runs_are_scored_by_their_answers():
    """Three classes of unit vectors; one of the asked is nearer to another's picture."""
    known = np.eye(3, dtype=np.float32).reshape(1, 3, 1, 1, 3)
    asked = np.array([[0.9, 0.1, 0], [0, 0.2, 0.8], [0, 0.1, 0.9]], np.float32).reshape(1, 3, 1, 1, 3)
    runs = data.Runs(known, asked, np.array([[0, 1, 2]]))
    assert runs.errors(lambda x: x.reshape(len(x), -1)).tolist() == pytest.approx([1 / 3])


def test_embeddings_have_norm_one_and_all_pairs_are_scored():
    e = build()
    variables = e.init_fn(jax.random.key(0))
    image = e.data.held_out["valid"].batch(0)["image"]
    embedding = e.predictor.fn(variables, {"image": image})["embedding"]
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1, rtol=1e-5)
    scores, same = data.pairs(np.asarray(embedding), np.arange(len(embedding)) % 3)
    assert len(scores) == len(embedding) * (len(embedding) - 1) // 2 and abs(scores).max() <= 1.0001
    assert same.mean() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.valid_classes=0", "data.valid_classes = 0"),
        ("data.test_classes=0.9", "their sum below 1"),
        ("data.valid_classes=0.1", "10 classes leave 1 for valid"),
        ("data.per_class=1", "data.per_class = 1"),
        ("data.per_class=3", "a divisor of data.batch_size"),
        ("data.batch_size=24", "holds 6 classes of 4"),
        ("loss.name=contrastive", "loss.name = 'contrastive'"),
        ("loss.margin=0", "loss.margin = 0"),
        ("loss.margin=1.6", "below pi / 2"),
        ("shift=-1", "shift = -1"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)


@pytest.mark.data
def test_omniglots_runs_are_the_published_ones():
    """20 runs of 20 characters, each asked once; the modified Hausdorff distance has Lake et al.'s 38.75 %, pixels more."""
    runs = data._runs()
    assert runs.known.shape == runs.asked.shape == (20, 20, 28, 28, 1)
    assert (np.sort(runs.answers, axis=1) == np.arange(20)).all()
    assert runs.errors(data._pixels).mean() > 0.5
    assert data._runs(None).hausdorff_errors().mean() == pytest.approx(0.3875)  # 155 of 400
    pictures, characters, asked = data._omniglot("background1")
    assert len(pictures) == 2_720 and len(set(characters)) == 136 and not asked.any()
    assert 0.02 < pictures.mean() < 0.15
