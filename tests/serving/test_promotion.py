"""Promotion: counts of two models on the same rows by hand, what counts as seen, and who may be compared."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from research.core import config
from research.core.experiment import Predictor
from research.data.images.picture_codecs import PictureClass
from research.data.pipeline import Arrays, EvalBatches
from research.data.text import classification as texts
from research.evals import paired
from research.run import reopen
from research.serving import promotion
from research.util.errors import UserError

LABELS = np.array([0, 1, 0, 1, 1, 0, 1])


def model(choices, seen=()):
    """A model that answers row i, a picture of one pixel i / 8, with class choices[i], and has been trained on `seen`."""

    def fn(variables, inputs):
        rows = jnp.round(8 * inputs["image"][:, 0, 0, 0]).astype(int)
        return {"probabilities": jnp.eye(2)[variables["choices"][rows]]}

    predictor = Predictor(fn, PictureClass((1, 1, 1), ("a", "b")))
    data = SimpleNamespace(training=pixels(np.array(seen, int)))
    state = SimpleNamespace(variables={"choices": jnp.array(choices)})
    return promotion.Model(SimpleNamespace(predictor=predictor, data=data), state)


def pixels(rows):
    return Arrays({"image": (rows / 8).astype(np.float32)[:, None, None, None], "label": LABELS[rows]})


def compared(candidate, current, known=frozenset()):
    return promotion.compare(candidate, current, EvalBatches(pixels(np.arange(7)), 4), known, level=0.05)


def test_rows_are_counted_in_pairs():
    current, candidate = model([0, 0, 1, 1, 1, 1, 0]), model([0, 1, 0, 1, 0, 0, 0])
    found = compared(candidate, current)  # right: rows 0 3 4, and 0 1 2 3 5
    assert (found.rows, found.left_out, found.wins, found.losses) == (7, 0, 3, 1)
    assert found.current == pytest.approx(3 / 7) and found.candidate == pytest.approx(5 / 7)
    assert found.difference == pytest.approx(2 / 7) and found.p == (4 + 1) / 16  # of 4 coins 3 or more
    assert (found.low, found.high) == paired.score_interval(3, 1, 7, 0.05)


def test_rows_that_one_was_trained_on_do_not_count():
    current, candidate = model([0, 0, 1, 1, 1, 1, 0], seen=[1]), model([0, 1, 0, 1, 0, 0, 0], seen=[2, 3])
    known = promotion.trained_on(current) | promotion.trained_on(candidate)
    found = compared(candidate, current, known)  # of rows 0 4 5 6: right 0 4, and 0 5
    assert (found.rows, found.left_out, found.wins, found.losses) == (4, 3, 1, 1)
    with pytest.raises(UserError, match="all 7 rows are training rows"):
        compared(candidate, current, promotion.trained_on(model([], seen=range(7))))


def test_a_text_is_known_whatever_its_batch_was_padded_to():
    cfg = config.load("text_classification/tiny", ["data.buckets=3", "data.length=64"])
    data = texts.load(cfg.data, 0)
    assert len({data.evals["valid"].batch(i)["tokens"].shape[1] for i in range(len(data.evals["valid"]))}) > 1
    fn = lambda variables, inputs: {"probabilities": jnp.ones((len(inputs["length"]), 2))}  # noqa: E731
    training = SimpleNamespace(training=data.evals["valid"].source)
    of_all = promotion.Model(
        SimpleNamespace(predictor=Predictor(fn, data.codec), data=training), SimpleNamespace(variables={})
    )
    with pytest.raises(UserError, match=f"all {len(training.training)} rows are training rows"):
        promotion.compare(of_all, of_all, data.evals["valid"], promotion.trained_on(of_all), 0.05)


def comparison(rows, wins, losses):
    bounds = paired.score_interval(wins, losses, rows, 0.05)
    return promotion.Comparison(rows, 0, 0.9, 0.9, wins, losses, *bounds, paired.mcnemar(wins, losses))


@pytest.mark.parametrize(
    "old, new, words",
    [
        ((1000, 5, 5), None, ""),
        ((1000, 5, 5), (40, 6, 0), ""),  # p = 1/64
        ((1000, 5, 15), None, "on old data it may be worse by 0.0"),
        ((180, 0, 0), None, "180 rows cannot show less than 0.0148: use more"),
        ((1000, 5, 5), (40, 4, 0), "on new data it is not shown to be better: p = 0.0625"),
        ((1000, 5, 15), (40, 9, 0), "on old data"),
    ],
)
def test_the_bar(old, new, words):
    found = promotion.objection(comparison(*old), new and comparison(*new), margin=0.01, level=0.05)
    assert found.startswith(words) or words in found
    assert bool(found) == bool(words)


def built(name, *changes):
    return promotion.Model(reopen.build(name, config.load(name, changes)), None)


@pytest.mark.parametrize(
    "name, changes, words",
    [
        (
            "image_classification/tiny",
            ["data.classes=0,1"],
            "the candidate has the classes 0, 1, the current model 0, 1, 2",
        ),
        ("text_classification/tiny", ["data.vocab_size=100"], "do not read the same inputs"),
        ("multi_task/tiny", [], "multi_task/tiny: only runs of image_classification and text_classification"),
    ],
)
def test_what_cannot_be_compared_is_said(name, changes, words):
    with pytest.raises(UserError, match=words):
        promotion.check_pair(built(name, *changes), built(name))


def test_other_networks_on_the_same_data_can_be_compared():
    promotion.check_pair(built("image_classification/tiny", "model.name=mlp"), built("image_classification/tiny"))
