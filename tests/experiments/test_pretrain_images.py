"""Pre-training: no labels, views and masks by number, the published sizes, encoders that start classifiers, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from experiments.pretrain_images import mae, simclr, train
from experiments.pretrain_images import views as random_views
from experiments.pretrain_images.configs import digits_mae, tiny
from experiments.pretrain_images.data import Unlabelled
from research.core import config, mesh, state
from research.data.images import augment, labelled
from research.models.vision.resnet import ResNet
from research.models.vision.vit import ViT
from research.util.errors import UserError
from tools.verbs import train as train_verb

SMALL = dict(image_shape=(8, 12, 2), patch=4, width=16, num_layers=1, num_heads=2)
SMALL_DECODER = dict(decoder_width=8, decoder_layers=1, decoder_heads=2)


def build(cfg, *changes):
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def test_training_reads_no_label():
    e = build(tiny.get_config())
    for batches in (e.train, *e.evals.values()):
        assert set(batches.spec) - {"mask"} == {"image", "draw"}


def test_views_are_the_pictures_own_and_differ():
    random = augment.make(dict(resized_crop=0.3, crop=1, jitter=0.4), 0)
    source = Unlabelled(labelled.load({"source": "digits"}).train)
    views = jax.jit(lambda batch: random_views.augmented(batch, 3, random, views=2))
    both, alone = views(source.gather(np.array([5, 9]), 2)), views(source.gather(np.array([9, 9]), 2))
    np.testing.assert_allclose(both[1], alone[0], atol=1e-6)
    other = views(source.gather(np.array([9, 9]), 3))
    assert np.abs(alone[0, 0] - alone[0, 1]).max() > 0.1 and np.abs(alone - other).max() > 0.1


@pytest.fixture(scope="module", params=[True, False], ids=["normalised", "pixels"])
def autoencoder(request):
    """A small one, its variables, and pictures with what they draw."""
    model = mae.MaskedAutoencoder(**SMALL, **SMALL_DECODER, mask=0.5, normalise=request.param)
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((3, 8, 12, 2), np.float32), "draw": np.array([[0, 4], [0, 7], [1, 4]], np.int32)}
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"], jnp.tile(jnp.arange(6), (3, 1)))
    return model, variables, batch, augment.make({}, 0)


def test_the_error_is_that_of_the_authors_code(autoencoder):
    """models_mae.py's `patchify` and `forward_loss`, in NumPy, over the patches that are hidden."""
    model, variables, batch, plain = autoencoder
    got = mae.outputs(model, variables, batch, 0, plain, train=True)[0]["error"]
    _, order, predicted = mae._predicted(model, variables, batch, 0, plain)
    pictures = batch["image"].transpose(0, 3, 1, 2).reshape(3, 2, 2, 4, 3, 4)  # n c h p w q
    target = np.einsum("nchpwq->nhwpqc", pictures).reshape(3, 6, 32)
    if model.normalise:
        mean, variance = target.mean(-1, keepdims=True), target.var(-1, keepdims=True, ddof=1)
        target = (target - mean) / (variance + 1e-6) ** 0.5
    for i in range(3):
        assert sorted(order[i].tolist()) == list(range(6))
        hidden = order[i].tolist()[3:]
        want = np.mean([(np.asarray(predicted[i, j]) - target[i, at]) ** 2 for j, at in enumerate(hidden)])
        assert float(got[i]) == pytest.approx(want, rel=1e-4)
    assert len({tuple(row) for row in order.tolist()}) == 3  # a picture hides others in another epoch


def test_a_prediction_reads_no_hidden_pixel(autoencoder):
    model, variables, batch, _ = autoencoder
    order = jnp.array([[4, 0, 2, 1, 3, 5]] * 3)
    changed = np.array(mae.patches(batch["image"], 4))
    changed[:, [1, 3, 5]] = 7
    apply = jax.jit(model.apply)
    there = mae.picture(jnp.asarray(changed), model.image_shape, 4)
    np.testing.assert_allclose(apply(variables, there, order), apply(variables, batch["image"], order), atol=1e-5)


def test_a_sample_keeps_what_is_visible(autoencoder):
    model, variables, batch, plain = autoencoder
    masked, made = mae.rows(model, variables, batch, 0, plain)
    for row in (masked, made):
        same = np.isclose(mae.patches(row, 4), mae.patches(batch["image"], 4), atol=1e-6).all(-1)
        assert same.sum(1).tolist() == [3, 3, 3]


def test_patches_and_pictures_are_inverse():
    x = np.arange(8 * 12 * 2, dtype=np.float32).reshape(1, 8, 12, 2)
    np.testing.assert_array_equal(mae.picture(mae.patches(x, 4), x.shape[1:], 4), x)


def test_the_paper_scale_has_the_published_parameters():
    """mae_vit_base_patch16 has 111,907,840 with its fixed positions; ViT-B/16 (torchvision) 86,567,656 with a head of 1,000."""
    model = mae.MaskedAutoencoder((224, 224, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), *mae.example(model, (224, 224, 3)))["params"]
    assert state.count(params) == 111_907_840 - 197 * (768 + 512)
    decoder = ("decoder", "mask", "pixels")
    encoder = {name: values for name, values in params.items() if not name.startswith(decoder)}
    assert state.count(encoder) == 86_567_656 - 1_000 * 769 - 197 * 768


def test_the_encoders_lie_where_the_classifiers_have_them():
    """With their arrays alone a ViT and a ResNet give the same features."""
    x = jax.random.normal(jax.random.key(1), (2, 8, 12, 2))
    model = mae.MaskedAutoencoder(**SMALL, **SMALL_DECODER)
    params = jax.jit(model.init)(jax.random.key(0), *mae.example(model, x.shape[1:]))["params"]
    vit = ViT(0, **SMALL, positions="sincos")
    own = {name: params[name] for name in jax.eval_shape(vit.init, jax.random.key(0), x)["params"]}
    features = jax.jit(partial(model.apply, method="embed"))({"params": params}, x)
    np.testing.assert_allclose(jax.jit(vit.apply)({"params": own}, x)[:, 0], features, atol=1e-6)

    model, resnet = simclr.SimCLR(8, "cifar", width=4), ResNet(0, 8, "cifar", width=4)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    own = {
        kind: {name: variables[kind][name] for name in values}
        for kind, values in jax.eval_shape(resnet.init, jax.random.key(0), x).items()
    }
    features = jax.jit(partial(model.apply, method="embed"))(variables, x)
    np.testing.assert_allclose(jax.jit(resnet.apply)(own, x)[-1].mean((1, 2)), features, atol=1e-6)


@pytest.mark.slow
def test_a_run_starts_a_classifier(tmp_path, capsys):
    small = ["num_steps=2", "optim.warmup=1", "log_every=1", "eval_every=2", "save_every=2", "model.num_layers=1"]
    train_verb.trainer("pretrain_images")(config.load("pretrain_images/digits_mae", small), tmp_path / "mae")
    vit = ["model.name=vit", "model.patch=2", "model.width=64", "model.num_heads=4", "model.pool=mean"]
    vit += ["model.positions=sincos", f"pretrained.weights={tmp_path / 'mae'}", "pretrained.fresh=^head/"]
    cfg = config.load("image_classification/digits", [*vit, *small, "augment.mean=0.0", "augment.std=1.0"])
    train_verb.trainer("image_classification")(cfg, tmp_path / "vit")
    assert f"arrays from {tmp_path / 'mae'}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_masked_autoencoder_learns():
    """Half the error of each patch's own mean, which is the best that is constant in a patch, after 200 steps."""
    e = build(digits_mae.get_config(), "num_steps=200", "optim.warmup=20")
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    with jax.set_mesh(mesh.of(now)):
        for step in range(200):
            now, metrics = e.train_step(now, e.train.batch(step))
    images = e.evals["valid"].source.source.gather(np.arange(179))["image"]
    assert float(metrics["loss"][0] / metrics["loss"][1]) < 0.7 * np.var(images)


def test_probes_are_of_the_labels_asked_for():
    """Of pixels, against scikit-learn's neighbours; of features that are the answer, all are right."""
    e = build(tiny.get_config(), "probe.examples=2000")
    values, _ = e.data.measure(e.data.encoders["pixels"], "test")
    parts = labelled.load({"source": "digits"})
    pixels = {p: getattr(parts, p).gather(np.arange(len(getattr(parts, p)))) for p in ("train", "test")}
    neighbours = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    neighbours.fit(pixels["train"]["image"].reshape(-1, 64), pixels["train"]["label"])
    want = neighbours.score(pixels["test"]["image"].reshape(-1, 64), pixels["test"]["label"])
    assert values["knn"] == pytest.approx(want, abs=1 / 179)
    assert 0.9 < values["probe"] <= 1


@pytest.mark.parametrize(
    "change, words",
    [
        ("model.name=byol", "model.name = 'byol'"),
        ("model.temperature=0", "model.temperature = 0"),
        ("probe.neighbours=0", "probe.neighbours = 0: from 1 to the 200"),
        ("probe.examples=10", "probe.neighbours = 20: from 1 to the 10"),
        ("augment.resized_crop=2.0", "augment.resized_crop is 2.0"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        cfg = config.load("pretrain_images/tiny", [change])
        train.build(cfg)


@pytest.mark.parametrize(
    "change, words",
    [
        ("model.mask=1", "model.mask = 1.0: a share of 16 patches"),
        ("model.mask=0.01", "hides some"),
        ("model.patch=3", "model.patch = 3: pictures of 8 x 8 pixels"),
        ("model.decoder_width=30", "model.decoder_width = 30"),
        ("model.pool=max", "model.pool = 'max'"),
    ],
)
def test_an_autoencoder_that_cannot_be_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        e = build(digits_mae.get_config(), change)
        jax.eval_shape(e.init_fn, jax.random.key(0))


def test_patches_of_one_number_have_no_deviation():
    with pytest.raises(UserError, match="patches of one number have no deviation"):
        build(digits_mae.get_config(), "model.patch=1", "model.normalise=True")
