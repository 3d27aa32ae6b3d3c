"""Diffusion: the published network, guidance, averaged weights, what a picture draws, its baseline, inpainting, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.diffusion import compare, inpaint, process, train
from experiments.diffusion import model as models
from experiments.diffusion.configs import tiny
from research.core import config
from research.data import draws
from research.generation import diffusion
from research.run import reopen
from research.util.errors import UserError
from tools import cli


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


@pytest.fixture(scope="module")
def untrained():
    """tiny with every parameter random: what begins at zero would hide classes, times and noise."""
    e, rng = build(), np.random.default_rng(0)
    shapes = jax.eval_shape(e.init_fn, jax.random.key(0))
    return e, jax.tree.map(lambda leaf: 0.25 * rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion") / "run"
    changes = ["--config.num_steps=3", "--config.optim.ema=0.9"]
    assert cli.main(["train", "diffusion/tiny", f"--workdir={folder}", *changes]) == 0
    return folder


def test_the_published_network_has_its_size():
    """35.7 M for CIFAR-10 (2006.11239, appendix B): the authors' weights, as google/ddpm-cifar10-32 has them, are 35,746,307."""
    model = models.UNet(num_classes=10, conditional=False)
    arguments = (jnp.zeros((1, 32, 32, 3)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 35_746_307


def test_time_and_class_are_read(untrained):
    e, variables = untrained
    apply = jax.jit(partial(e.model.apply, variables, jnp.ones((1, 8, 8, 1))))
    outputs = [apply(jnp.array([t]), jnp.array([c])) for t, c in ((0.5, 3), (0.55, 3), (0.5, 4), (0.5, 10))]
    for other in outputs[1:]:
        assert np.abs(outputs[0] - other).max() > 1e-3


def by_hand(e, variables, noise, label, guidance):
    """DDIM's deterministic sampler in NumPy, of a network that predicts the velocity, with guidance by two passes."""
    apply = jax.jit(e.model.apply)
    signal, x = np.asarray(diffusion.cosine(20), np.float64), np.asarray(noise, np.float64)
    for now, then in ((20, 15), (15, 10), (10, 5), (5, 0)):
        network = lambda c, x=x, now=now: np.asarray(  # noqa: E731
            apply(variables, x.astype(np.float32), jnp.full(len(x), now / 20), c), np.float64
        )
        v = (1 + guidance) * network(label) - (guidance * network(np.full_like(label, 10)) if guidance else 0)
        picture = np.clip(np.sqrt(signal[now]) * x - np.sqrt(1 - signal[now]) * v, -1, 1)
        direction = (x - np.sqrt(signal[now]) * picture) / np.sqrt(1 - signal[now])
        x = np.sqrt(signal[then]) * picture + np.sqrt(1 - signal[then]) * direction
    return (x + 1) / 2


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_the_export_is_ddim_by_hand_and_without_guidance_the_conditional_model(untrained, guidance):
    e = build(f"sample.guidance={guidance}")
    variables = untrained[1]
    noise, label = np.asarray(jax.random.normal(jax.random.key(2), (3, 8, 8, 1))), np.array([0, 5, 9], np.int32)
    got = jax.jit(e.predictor.fn)(variables, {"noise": noise, "label": label})["image"]
    np.testing.assert_allclose(got, by_hand(e, variables, noise, label, guidance), atol=2e-3)


def test_a_sampled_picture_is_its_own(untrained):
    """Of 103 pictures, two programs' worth, the last is what it is among others, by its key, number and class."""
    e, variables = untrained
    sampler, key = e.evaluator.sampler, jax.random.key(7)
    labels = np.arange(103) % 10
    many = sampler(variables, key, labels, eta=1.0)
    assert many.shape == (103, 8, 8, 1) and 0 <= many.min() and many.max() <= 1
    np.testing.assert_allclose(sampler(variables, key, labels[:7], eta=1.0), many[:7], atol=1e-5)
    assert np.abs(many[102] - many[2]).max() > 0.01  # of the same class
    assert np.abs(sampler(variables, key, labels[:7], eta=0.0) - many[:7]).max() > 0.01
    guided = [sampler(variables, key, labels[:7], guidance=w) for w in (1e-9, 0.0, 3.0)]
    np.testing.assert_allclose(guided[0], guided[1], atol=1e-5)
    assert np.abs(guided[2] - guided[1]).max() > 0.01


def test_a_picture_draws_by_its_own_number(untrained):
    e, variables = untrained
    source = e.train.source
    run = jax.jit(lambda batch: train.errors_at_times(e.model, variables, batch, process=process.make(e.cfg.diffusion)))
    both, alone = (run(source.gather(np.array(rows), 0))["loss"] for rows in ([4, 9], [9, 9]))
    np.testing.assert_allclose(both[1], alone[0], rtol=1e-5)


def test_a_class_is_dropped_as_often_as_asked(untrained):
    e, _ = untrained
    seen = []

    class Watched:
        num_classes = 10

        def apply(self, variables, x, time, label, train, rngs):
            seen.extend(label.tolist())
            return x

    batch = e.train.source.gather(np.arange(1_400), 0)
    setting = process.make(e.cfg.diffusion)
    train.loss(Watched(), {}, {}, batch, jax.random.key(0), process=setting, drop_class=0.25, seed=0)
    dropped = np.array(seen) == 10
    assert dropped.mean() == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(np.array(seen)[~dropped], batch["label"][~dropped])


def test_times_are_drawn_evenly_and_in_evaluation_from_each_part():
    setting, image = process.make(tiny.get_config().diffusion), jnp.zeros((4_000, 1, 1, 1))
    keys, times = draws.keys(np.stack([np.zeros(4_000), np.arange(4_000)], 1).astype(np.int32), 0, "x"), []

    def apply(x, time):
        times.append(np.rint(20 * np.asarray(time)).astype(int))
        return x

    train.errors(apply, image, keys, setting)
    np.testing.assert_allclose(np.bincount(times[0], minlength=21)[1:] / 4_000, 0.05, atol=0.015)
    train.errors(apply, image, keys, setting, part=3, parts=4)
    assert set(times[1]) == {16, 17, 18, 19, 20}


@pytest.mark.parametrize("predicts", diffusion.PREDICTIONS)
def test_the_linear_denoisers_loss_is_what_it_reaches(predicts):
    """Against a regression: the best linear prediction from noisy pictures, fitted and measured on drawn noise."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    pictures = (0.5 + 0.1 * rng.normal(size=(60_000, 3)) @ mixing).astype(np.float32).reshape(-1, 1, 3, 1)
    setting = process.Process(np.array([1, 0.7, 0.2], np.float32), predicts, None)
    x, noise = 2 * pictures.reshape(-1, 3) - 1, rng.normal(size=(60_000, 3))
    errors = []
    for left in (0.7, 0.2):
        noisy = np.sqrt(left) * x + np.sqrt(1 - left) * noise
        target = np.asarray(diffusion.target(x, noise, np.float32(left), predicts))
        inputs = np.concatenate([noisy, np.ones((len(x), 1))], 1)
        errors.append(np.square(inputs @ np.linalg.lstsq(inputs, target, rcond=None)[0] - target).mean())
    assert setting.linear_denoiser(pictures, pictures)["linear denoiser"] == pytest.approx(np.mean(errors), rel=0.01)


def test_samples_are_of_the_averaged_weights_and_of_the_others_on_demand(trained):
    e, state, _ = reopen.load(trained)
    raw = state.replace(ema={})
    key, labels = jax.random.key(0), np.arange(4)
    by_average, by_last = (e.evaluator.sampler(s.variables, key, labels) for s in (state, raw))
    assert np.abs(by_average - by_last).max() > 1e-3
    np.testing.assert_array_equal(by_last, e.evaluator.sampler({"params": state.params}, key, labels))


def test_sample_draws_as_its_options_say(trained, tmp_path, capsys):
    def drawn(*options):
        out = tmp_path / "a.png"
        assert cli.main(["sample", str(trained), "--out", str(out), *options]) == 0
        return np.asarray(Image.open(out))

    plain = drawn()
    assert plain.shape == (400, 400)
    np.testing.assert_array_equal(plain, drawn("--steps=4", "--eta=0", "--guidance=0"))
    for option in ("--steps=20", "--eta=1", "--guidance=3", "--label=7", "--seed=1"):
        assert (drawn(option) != plain).any(), option
    capsys.readouterr()
    for option, words in (
        ("--steps=21", "21 steps: from 1 to the 20 times of the model"),
        ("--eta=2", "eta = 2.0: from 0"),
        ("--label=11", "no class '11'"),
        ("--top-k=3", "--top-k is for text; diffusion/tiny generates images"),
    ):
        assert cli.main(["sample", str(trained), option]) == 2
        assert words in capsys.readouterr().err


def test_inpainting_keeps_the_known_pixels(untrained):
    e, variables = untrained
    batch = e.evals["test"].source.gather(np.arange(3), 0)
    fills, known = inpaint.filled(e, variables, batch, steps=2, repeats=2, draws=2)
    assert known.mean() == 0.75
    for fill in fills.values():
        np.testing.assert_allclose(fill[known], batch["image"][known], atol=1e-6)
        assert np.abs(fill - batch["image"])[~known].max() > 0.1


@pytest.mark.parametrize(
    "change, words",
    [
        ("diffusion.schedule=sigmoid", "diffusion.schedule = 'sigmoid'"),
        ("diffusion.predicts=score", "diffusion.predicts = 'score'"),
        ("diffusion.times=0", "diffusion.times = 0"),
        ("diffusion.min_snr=-1.0", "diffusion.min_snr = -1.0"),
        ("drop_class=1.0", "drop_class = 1.0"),
        ("sample.steps=50", "50 steps: from 1 to the 20 times"),
        ("sample.eta=-1.0", "eta = -1.0"),
        ("model.conditional=False sample.guidance=1.0", "guidance = 1.0: the model reads no class"),
        ("model.multipliers=(1,1,1,1,1)", "8 x 8: the sides must be multiples of 16"),
        ("model.attention=(3,)", "model.attention has level 3"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        e = build(*change.split())
        jax.eval_shape(e.init_fn, jax.random.key(0))


def test_a_value_is_noise_and_a_class():
    e = build()
    noise = np.zeros((8, 8, 1), np.float32)
    assert e.predictor.codec.encode((noise, "7"))["label"].tolist() == [7]
    for value, words in ((noise, "takes \\(value, name of a class\\)"), ((noise[0], "7"), "noise of \\(8, 1\\)")):
        with pytest.raises(UserError, match=words):
            e.predictor.codec.encode(value)


def test_the_rows_of_the_comparison():
    got = list(compare.rows([10, 50], conditional=True, has_average=True))
    assert len(got) == len(set(got)) == 4 + 2 * 3
    assert [row for row in got if not row[3]] == [(50, 0.0, 0.0, False), (50, 1.0, 0.0, False)]
    assert list(compare.rows([50], conditional=False, has_average=False)) == [
        (50, 0.0, 0.0, False),
        (50, 1.0, 0.0, False),
    ]


@pytest.mark.parametrize(
    ("script", "option", "message"),
    [
        (compare, "--samples=1", "--samples=1: at least 2"),
        (inpaint, "--draws=0", "--draws=0: at least 1"),
        (inpaint, "--pictures=0", "--pictures=0: at least 1"),
        (inpaint, "--repeats=0", "--repeats=0: at least 1"),
    ],
)
def test_scripts_refuse_too_few(script, option, message, tmp_path):
    with pytest.raises(UserError, match=message):
        script.main([str(tmp_path), option])
