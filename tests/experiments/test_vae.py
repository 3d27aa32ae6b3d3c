"""Autoencoders: the likelihood by quadrature, what an example draws, the published recipe, bad input."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.vae import model as models
from experiments.vae import train
from experiments.vae.configs import digits, mnist_vae, tiny
from research.core import config
from research.data.draws import Drawn
from research.data.pipeline import Arrays
from research.util.errors import UserError
from tools import cli


def build(cfg, *changes):
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


@pytest.fixture(scope="module")
def one_latent():
    """An autoencoder of digits with one latent whose decoder is no constant, and whose q is near the prior: a good proposal."""
    e = build(digits.get_config(), "model.latent=1", "model.hidden=(16,)", "likelihood.samples=20000")
    params = dict(e.init_fn(jax.random.key(0))["params"])
    params["pixels"] = jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(1), p.shape), params["pixels"])
    params |= {name: jax.tree.map(lambda p: 0.1 * p, params[name]) for name in ("mean", "log_std")}
    return e, {"params": params}


def test_the_bound_of_many_samples_is_the_likelihood(one_latent):
    """log p(x) = log of the integral of p(x | z) N(z; 0, 1), on a grid."""
    e, variables = one_latent
    batch = e.evals["valid"].source.gather(np.arange(20), 0)
    x = np.asarray(e.evaluator._pixels(batch), np.float64)
    grid = np.linspace(-8, 8, 4001)
    label = np.zeros(len(grid), np.int32)
    logits = np.asarray(e.model.apply(variables, grid[:, None].astype(np.float32), label, method="decode"), np.float64)
    log_p = x @ logits.T - np.logaddexp(0, logits).sum(-1) - 0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    want = np.logaddexp.reduce(log_p, axis=1) + np.log(grid[1] - grid[0])
    np.testing.assert_allclose(e.evaluator._log_likelihood(variables, batch), want, atol=0.03)


@pytest.mark.parametrize("name, samples", [("vae", 1), ("vae", 20), ("iwae", 1), ("iwae", 20)])
def test_the_losses_bound_the_likelihood(one_latent, name, samples):
    e, variables = one_latent
    batch = e.evals["valid"].source.gather(np.arange(179), 0)
    got = train.nats(
        e.model, variables, batch, name=name, samples=samples, beta=1.0, binarise="resample", seed=train.EVAL_SEED
    )
    exact = -float(e.evaluator._log_likelihood(variables, batch).mean())
    assert float(got["loss"].mean()) > exact - 0.01
    if name == "iwae" and samples == 20:
        assert float(got["loss"].mean()) < float((got["reconstruction"] + got["kl"]).mean())


def test_beta_weighs_the_divergence(one_latent):
    e, variables = one_latent
    batch = e.evals["valid"].source.gather(np.arange(8), 0)
    got = train.nats(e.model, variables, batch, name="vae", samples=2, beta=4.0, binarise="once", seed=3)
    np.testing.assert_allclose(got["loss"], got["reconstruction"] + 4 * got["kl"], rtol=1e-5)


def test_an_example_draws_by_its_own_number():
    grey = np.linspace(0, 1, 6, dtype=np.float32).reshape(1, 1, 6, 1)
    source = Drawn(Arrays({"image": np.repeat(grey, 3, 0)}))
    pixels = partial(train.pixels, seed=0)
    both = source.gather(np.array([0, 2]), 5)
    alone = source.gather(np.array([2]), 5)
    np.testing.assert_array_equal(pixels(both, "resample")[1], pixels(alone, "resample")[0])
    epochs = np.array([pixels(source.gather(np.array([1]), epoch), "resample")[0] for epoch in range(400)])
    np.testing.assert_allclose(epochs.mean(0), grey.ravel(), atol=0.08)
    once = np.array([pixels(source.gather(np.array([1]), epoch), "once")[0] for epoch in range(20)])
    assert (once == once[0]).all() and set(once[0].tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(pixels(alone, "none"), grey.reshape(1, 6))


def test_every_pixel_begins_at_its_mean():
    e = build(digits.get_config())
    variables = e.init_fn(jax.random.key(0))
    bias = variables["params"]["pixels"]["bias"]
    np.testing.assert_allclose(jax.nn.sigmoid(bias), e.data.pixel_means.ravel(), atol=1e-6)


def test_the_published_network_has_its_size():
    model = models.VAE(shape=(28, 28, 1), num_classes=10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 784)), jnp.zeros(1, jnp.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 425_284


def test_burdas_adam_by_hand():
    """A mean gradient of 2 over a batch of 20: m = 0.01 * 40, v = 0.999 + 0.001 * 40^2, each divided by its bias."""
    tx = train.iwae_adam(20)
    updates, _ = tx.update({"w": jnp.array(2.0)}, tx.init({"w": jnp.array(0.0)}))
    assert float(updates["w"]) == pytest.approx(40 / (2.599 / 0.001) ** 0.5, rel=1e-3)


def test_burdas_stages_by_hand():
    class Batches:
        epoch, batch_size = 60, 20

    schedule = train.tripling(Batches)(1e-3, 1e-4, 3 * 3280)
    starts = 3 * np.array([0, 1, 4, 13, 40, 121, 364, 1093])
    rates = [1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4]  # as their code rounds them
    np.testing.assert_allclose([schedule(step) for step in starts], rates, atol=0.06e-4)
    np.testing.assert_allclose([schedule(step - 1) for step in starts[1:]], rates[:-1], atol=0.06e-4)
    assert float(schedule(3 * 3280 - 1)) == pytest.approx(1e-4)


def test_the_published_epochs_are_eight_stages():
    assert mnist_vae.get_config().num_steps == f"{sum(3**i for i in range(8))} epochs"


def test_a_file_of_a_conditional_model_has_the_class_of_its_folder(tmp_path, capsys):
    from PIL import Image

    assert cli.main(["train", "vae/tiny", f"--workdir={tmp_path / 'run'}", "--config.likelihood.samples=0"]) == 0
    for name in ("3", "three"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / "a.png")
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "3" / "a.png")]) == 0
    out = capsys.readouterr().out
    assert len(json.loads(out[out.index("{") : out.rindex("}") + 1])["code"]) == 8
    assert cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "three" / "a.png")]) == 2
    assert "no class 'three'" in capsys.readouterr().err
    names = {path.name.split("_", 2)[2] for path in (tmp_path / "run" / "samples").iterdir()}
    assert names == {"samples.png", "reconstructions.png", "traversals.png"}


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.binarise=twice", "data.binarise = 'twice'"),
        ("loss.name=elbo", "loss.name = 'elbo'"),
        ("loss.samples=0", "loss.samples = 0: at least 1"),
        ("loss.beta=-1", "loss.beta = -1"),
        ("likelihood.samples=-1", "likelihood.samples = -1"),
        ("likelihood.part=train", "likelihood.part = 'train'"),
        ("model.activation=gelu", "model.activation = 'gelu'"),
        ("optim.schedule=tripling", "optim.end_lr = 0"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        e = build(tiny.get_config(), change)
        jax.eval_shape(e.init_fn, jax.random.key(0))


def test_importance_weights_take_no_beta():
    with pytest.raises(UserError, match="loss.beta = 2"):
        build(tiny.get_config(), "loss.name=iwae", "loss.beta=2")


def test_the_picture_of_a_class_needs_its_class():
    e = build(tiny.get_config())
    with pytest.raises(UserError, match="takes \\(value, name of a class\\)"):
        e.predictor.codec.encode(np.zeros((8, 8), np.uint8))
    assert e.predictor.codec.encode((np.zeros((8, 8), np.uint8), "7"))["label"].tolist() == [7]
