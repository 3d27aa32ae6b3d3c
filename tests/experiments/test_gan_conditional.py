"""Class by class with spectral norm: the power iteration's vectors on eight devices and over a resumption, and named classes."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.gan import train
from research.algorithms import sample_metrics
from research.core import config, mesh, state
from research.core.experiment import Evaluated
from research.util.errors import UserError
from tests.stopped import train_until

SMALL = ["data.batch_size=16", "model.latent=4", "model.generator.width=4", "model.discriminator.width=4"]
SMALL += ["num_steps=4", "log_every=2", "eval_every=0", "save_every=2", "optim.ema=0"]


def build(*changes):
    return train.build(config.load("gan/digits_sngan", [*SMALL, *changes]))


def unmeasured():
    """The experiment without the classifier that measures its samples."""
    return dataclasses.replace(build(), evaluator=lambda *_: Evaluated({}), at_end=())


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(tree))]


def test_eight_devices_have_the_same_vectors():
    e, ends = build(), []
    for count in (1, 8):
        devices = mesh.make_mesh({"data": count}, jax.devices()[:count])
        step = type(e.train_step)(e.train_step.fn)
        with jax.set_mesh(devices):
            now = state.create(e.init_fn, e.tx, 0, devices, e.sharding["fsdp"])
            before = leaves(now.model_state)
            for batch in e.train.on_device(devices, 0, 2):
                now, _ = step(now, batch)
        ends.append(leaves((now.model_state, now.params)))
        assert not any(
            np.array_equal(a, b) for a, b in zip(before, leaves(now.model_state), strict=True) if a.ndim == 2
        )
    for one, eight in zip(*ends, strict=True):
        np.testing.assert_allclose(eight, one, atol=2e-5, rtol=2e-4)


def test_a_resumed_game_is_the_undisturbed_one(tmp_path, capsys):
    whole = train.train(unmeasured(), tmp_path / "whole")
    train_until(unmeasured(), tmp_path / "parts", 2)
    resumed = train.train(unmeasured(), tmp_path / "parts")
    assert "resumed at step 2 of" in capsys.readouterr().out
    for name in ("model_state", "params", "opt"):
        for a, b in zip(*(leaves(getattr(end, name)) for end in (whole, resumed)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_class_decides_and_is_chosen_by_name(tmp_path, monkeypatch):
    """A generator whose class 3 is scaled to nothing and raised draws one grey for it, and other pictures for the others."""
    monkeypatch.setattr(sample_metrics, "JUDGE_STEPS", 1)
    e = build()
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    norm = now.params["generator"]["ConditionalBatchNorm_0"]
    norm["scale"]["embedding"] = norm["scale"]["embedding"].at[3].set(0)
    drawn = []
    e.evaluator._plot = lambda path, samples: drawn.append(samples)
    for label in ("3", "4", None):
        list(train.sample(e, now, jax.random.key(0), tmp_path / "out.png", label=label))
    of_three, of_four, rows = drawn
    assert np.ptp(of_three, axis=0).max() == 0 < np.ptp(of_four, axis=0).max()
    np.testing.assert_allclose(rows[30:40], of_three[30:40], atol=1e-6)
    np.testing.assert_allclose(rows[40:50], of_four[40:50], atol=1e-6)
    with pytest.raises(UserError, match="no class 'three'"):
        list(train.sample(e, now, jax.random.key(0), tmp_path / "out.png", label="three"))
    value = e.predictor.codec.encode((np.zeros(4), "7"))
    assert value["label"].tolist() == [7] and value["z"].shape == (1, 4)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("gan/tiny", "model.pack=1 model.conditional=True", "the grid has no classes"),
        ("gan/digits_sngan", "model.pack=2", "model.pack = 2 contradicts model.conditional"),
        ("gan/digits_sngan", "loss.name=hinges", "loss.name = 'hinges'.*hinge"),
    ],
)
def test_what_means_nothing_is_refused(name, change, words):
    with pytest.raises(UserError, match=words):
        train.build(config.load(name, change.split()))


def test_an_unconditional_model_has_no_classes(tmp_path):
    e = train.build(config.load("gan/tiny"))
    with pytest.raises(UserError, match="the model reads no class: train one with model.conditional=True"):
        list(train.sample(e, None, jax.random.key(0), tmp_path / "out.png", label="3"))
