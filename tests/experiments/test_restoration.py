"""Restoration: damages by hand and against JAX's interpolation, regions that share no pixel, what is known and what is kept."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.restoration import damage, model, train
from research.algorithms import sample_metrics
from research.core import config
from research.util.errors import UserError


def build(*changes):
    return train.build(config.load("restoration/tiny", list(changes)))


def test_interpolation_is_bicubic():
    """Keys' kernel with a = -1/2, wider where it makes smaller, in either direction: as JAX has it."""
    x = np.random.default_rng(0).random((2, 16, 24, 3)).astype(np.float32)
    for rows, columns in ((4, 6), (64, 96)):
        expected = jax.image.resize(x, (2, rows, columns, 3), "cubic").clip(0, 1)
        np.testing.assert_allclose(damage.resized(x, rows, columns, Image.Resampling.BICUBIC), expected, atol=1e-5)
    expected = jax.image.resize(x, (2, 64, 96, 3), "linear")
    np.testing.assert_allclose(damage.Downscale(4).estimates(x)["bilinear"], expected, atol=1e-5)


def test_a_hidden_square_is_not_read():
    x = np.random.default_rng(0).random((2, 7, 8, 1)).astype(np.float32)
    mask = damage.Mask(4)
    hidden = mask.hidden((7, 8, 1))
    assert hidden.sum() == 16 and hidden[1:5, 2:6].all()
    other = np.where(hidden[..., None], 1 - x, x)
    for a, b in zip(*(mask.estimates(mask.apply(each)).values() for each in (x, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a[:, ~hidden], x[:, ~hidden], atol=1e-6)
    mean = mask.estimates(mask.apply(x))["mean of what is known"]
    np.testing.assert_allclose(mean[1, 2, 3, 0], np.delete(x[1].ravel(), np.flatnonzero(hidden)).mean(), rtol=1e-5)


def test_folding_keeps_the_pixels_of_a_square_together():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    folded = model.folded(x, 2)
    np.testing.assert_array_equal(folded[1, 1, 2], x[1, 2:4, 4:6].ravel())
    np.testing.assert_array_equal(model.unfolded(folded, 2), x)


def test_an_untrained_network_returns_the_estimate_and_a_trained_one_keeps_what_is_known():
    e = build("damage.name=mask", "damage.size=8", "data.batch_size=4")
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    batch = e.train.batch(0)
    predict = jax.jit(e.predictor.fn)
    np.testing.assert_allclose(predict(variables, batch)["image"], batch["estimate"], atol=1e-6)
    moved = jax.tree.map(lambda p: p + 0.1, variables)
    restored = predict(moved, batch)["image"]
    known = batch["hidden"][..., 0] == 0
    np.testing.assert_allclose(restored[known], batch["image"][known], atol=1e-6)
    assert np.abs(restored - batch["estimate"])[~known].max() > 0.1


def test_metrics_are_of_the_hidden_pixels_of_all_pictures():
    """An error of 0.1 in one picture's square and of 0.3 in another's; a third is padding: PSNR of (0.01 + 0.09) / 2."""
    hidden = np.zeros((3, 12, 12, 1), np.float32)
    hidden[:, 4:8, 4:8] = 1
    image = np.full((3, 12, 12, 3), 0.5, np.float32)
    restored = image + hidden * np.array([0.1, 0.3, 0.4], np.float32).reshape(3, 1, 1, 1)
    batch = {"image": image, "hidden": hidden, "mask": np.array([1.0, 1.0, 0.0], np.float32)}
    sums = train.batch_metrics({"image": restored}, batch)
    means = train.split_metrics({name: float(total / weight) for name, (total, weight) in sums.items()})
    assert means["psnr"] == pytest.approx(-10 * np.log10(0.05), rel=1e-5)
    assert sums["ssim"][1] == 2


def test_the_baselines_are_the_metrics_of_the_estimates():
    e = build("data.eval_batch_size=100")
    baselines, first = e.data.baselines(), e.evals["valid"]
    rows = first.source.gather(np.arange(len(first.source)), 0)
    sums = train.batch_metrics({"image": rows["estimate"]}, {**rows, "mask": np.ones(len(rows["image"]), np.float32)})
    means = train.split_metrics({name: float(total / weight) for name, (total, weight) in sums.items()})
    for name in ("psnr", "ssim"):
        assert means[name] == pytest.approx(baselines[f"valid/{name}"].values["bicubic"], rel=1e-4)


def test_pictures_smaller_than_its_window_have_no_ssim():
    e = build("data.source=digits", "damage.name=mask", "damage.size=4", "model.fold=2")
    assert set(e.data.baselines()) == {"valid/psnr", "test/psnr"}
    batch = e.evals["valid"].batch(0)
    assert set(train.batch_metrics({"image": batch["estimate"]}, batch)) == {"squared_error"}


def test_a_small_picture_becomes_a_large_one():
    e = build()
    codec = e.predictor.codec
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    row = codec.encode(small)
    assert row["estimate"].shape == (1, 16, 16, 3) and row["hidden"].all()
    restored = e.predictor.fn(jax.jit(e.init_fn)(jax.random.key(0)), row)
    picture = codec.draw(small, codec.decode(restored))
    assert picture.size == (16, 16)
    np.testing.assert_allclose(np.asarray(picture), 255 * row["estimate"][0], atol=0.6)


@pytest.mark.parametrize(
    "change, words",
    [
        ("damage.name=blur", "damage.name = 'blur'"),
        ("damage.size=3", "damage.size = 3: a factor of 2 or more that divides the 16 x 16"),
        ("damage.name=mask damage.size=16", "damage.size = 16: from 1 to below"),
        ("data.size=65", "data.size = 65"),
        ("loss.name=l3", "loss.name = 'l3'"),
        ("model.fold=3", "multiples of model.fold = 3"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        e = build(*change.split())
        jax.eval_shape(e.init_fn, jax.random.key(0))


def test_the_distance_of_features_is_measured_in_the_evaluation(monkeypatch):
    """An untrained network returns the first estimate, whose distance is the baseline; the original has none."""
    monkeypatch.setattr(sample_metrics, "JUDGE_STEPS", 2)
    hole = ["data.source=digits", "damage.name=mask", "damage.size=4", "model.fold=2", "features=classifier"]
    e = build(*hole, "data.eval_batch_size=179")
    state = SimpleNamespace(variables=jax.jit(e.init_fn)(jax.random.key(0)))
    total, weight = e.eval_step(state, e.evals["test"].batch(0))["feature_distance"]
    baseline = e.data.baselines()["test/feature_distance"].values
    assert total / weight == pytest.approx(baseline["harmonic"], rel=1e-4) and total > 0
    rows = e.evals["test"].source.gather(np.arange(5), 0)
    assert e.data.distance(rows["image"], rows["image"], rows["hidden"]).max() < 1e-6
