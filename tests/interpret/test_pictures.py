"""Attributions to pixels: axioms, a planted shortcut, and networks whose maps are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.interpret import attention, pictures
from research.models.vision.compact_transformer import CompactTransformer
from research.models.vision.vit import ViT
from research.util.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = RNG.random((2, 6, 6, 2)).astype(np.float32)
WEIGHTS = RNG.normal(size=(6, 6, 2)).astype(np.float32)


def linear(image):
    return (image * WEIGHTS).sum((1, 2, 3)) + 3


def curved(image):
    return jnp.tanh((image * WEIGHTS).sum((1, 2, 3))) + jnp.square(image[:, 0, 0, 0]) * image[:, 1, 1, 1]


class Pooled(nn.Module):
    """A convolution, its mean over positions, and a dense layer: where CAM is exact."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 3), name="conv")(x)
        return nn.Dense(4, name="head")(x.mean((1, 2)))


def test_a_linear_score_is_its_weights():
    np.testing.assert_allclose(
        pictures.saliency(linear, IMAGE).pixels, np.broadcast_to(abs(WEIGHTS).max(-1), (2, 6, 6))
    )
    by_path = pictures.integrated_gradients(linear, IMAGE, steps=3)
    np.testing.assert_allclose(by_path.pixels, (IMAGE * WEIGHTS).sum(-1), atol=1e-5)
    np.testing.assert_allclose(by_path.baseline, 3, atol=1e-6)
    one = pictures.occlusion(linear, IMAGE, size=1)
    np.testing.assert_allclose(one.pixels, (IMAGE * WEIGHTS).sum(-1), atol=1e-4)


def test_integrated_gradients_are_complete():
    whole = pictures.integrated_gradients(curved, IMAGE, baseline=0.5, steps=200)
    np.testing.assert_allclose(whole.pixels.sum((1, 2)), whole.score - whole.baseline, atol=1e-3)
    np.testing.assert_allclose(whole.gap, 0, atol=1e-3)
    rough = pictures.integrated_gradients(curved, IMAGE, baseline=0.5, steps=2)
    assert abs(rough.gap).max() > 10 * abs(whole.gap).max()


def test_a_pixel_is_occluded_by_every_square_that_covers_it():
    got = pictures.occlusion(linear, IMAGE, size=3, stride=3, baseline=0.25)
    block = ((IMAGE - 0.25) * WEIGHTS).sum(-1).reshape(2, 2, 3, 2, 3).sum((2, 4))
    np.testing.assert_allclose(got.pixels, block.repeat(3, 1).repeat(3, 2), atol=1e-4)
    # 4-pixel squares of a 6-pixel side, 3 apart, start at 0 and, so as to end at the border, at 2.
    assert [row.start for row, column in pictures.squares(6, 4, size=4, stride=3)] == [0, 2]
    with pytest.raises(UserError, match="a square of 7 pixels does not fit into 6 x 6"):
        pictures.occlusion(linear, IMAGE, size=7)


def test_grad_cam_of_a_pooled_convolution_is_its_class_activation_map():
    """Zhou et al. 2016: the maps weighted by the class's own weights; the gradient of a mean divides them by the positions."""
    model = Pooled()
    variables = model.init(jax.random.key(0), IMAGE)
    got = pictures.grad_cam(lambda x: model.apply(variables, x)[:, 2], IMAGE).pixels
    params = variables["params"]
    maps = nn.Conv(3, (3, 3)).apply({"params": params["conv"]}, IMAGE)
    want = jax.nn.relu(maps @ params["head"]["kernel"][:, 2]) / 36
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_grad_cam_reads_the_last_of_the_layers_named_that_the_score_depends_on():
    """Of two branches the score reads one; by name, the layer before it. The mean of its output gives each map the weight 1."""

    class Branches(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(2, (3, 3), name="first")(x)
            read, other = (nn.Conv(1, (1, 1), use_bias=False, name=name)(x) for name in ("read", "other"))
            return read.sum((1, 2, 3)), other

    model = Branches()
    variables = model.init(jax.random.key(0), IMAGE)
    first = nn.Conv(2, (3, 3)).apply({"params": variables["params"]["first"]}, IMAGE)
    kernel = variables["params"]["read"]["kernel"][0, 0, :, 0]
    want = jax.nn.relu(first @ kernel)  # which for "read" itself is its own output
    for features in ("", "^read$", "^first$"):
        got = pictures.grad_cam(lambda x: model.apply(variables, x)[0], IMAGE, features).pixels
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_clip_has_a_map_for_each_frame():
    """Of a linear score, whose maps are known, and a network whose features are the frames'."""
    clip = RNG.random((2, 3, 6, 6, 2)).astype(np.float32)
    weights = RNG.normal(size=clip.shape[1:]).astype(np.float32)

    def score(x):
        return (x * weights).sum((1, 2, 3, 4))

    want = (clip * weights).sum(-1)
    by_path = pictures.integrated_gradients(score, clip, steps=2)
    np.testing.assert_allclose(by_path.pixels, want, atol=1e-5)
    np.testing.assert_allclose(by_path.gap, 0, atol=1e-4)
    np.testing.assert_allclose(pictures.saliency(score, clip).pixels, np.broadcast_to(abs(weights).max(-1), want.shape))
    squares = pictures.occlusion(score, clip, size=3, stride=3).pixels
    block = want.reshape(2, 3, 2, 3, 2, 3).sum((3, 5))
    np.testing.assert_allclose(squares, block.repeat(3, 2).repeat(3, 3), atol=1e-4)

    model = nn.Conv(1, (1, 1, 1), use_bias=False)
    variables = {"params": {"kernel": jnp.ones((1, 1, 1, 2, 1))}}
    maps = pictures.grad_cam(lambda x: model.apply(variables, x)[:, 1].sum((1, 2, 3)), clip).pixels
    np.testing.assert_allclose(maps, clip.sum(-1) / 3, atol=1e-5)  # a third: the gradient's mean over three frames


def test_a_network_without_maps_has_no_grad_cam():
    with pytest.raises(UserError, match="needs a convolutional network"):
        pictures.grad_cam(linear, IMAGE)


def test_a_planted_shortcut_is_found():
    """The class stands in one pixel; the rest is noise. Each method's map is largest there, once the model has learnt it."""
    labels = RNG.integers(0, 2, 256)
    images = RNG.random((256, 8, 8, 1)).astype(np.float32)
    images[:, 1, 6, 0] = labels

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(8, (3, 3), name="conv")(x))
            return nn.Dense(2)(x.reshape(len(x), -1))

    model = Net()
    variables = model.init(jax.random.key(0), images)

    @jax.jit
    def step(params):
        def loss(params):
            logits = model.apply({"params": params}, images)
            return -jax.nn.log_softmax(logits)[jnp.arange(256), labels].mean()

        return jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params))

    params = variables["params"]
    for _ in range(300):
        params = step(params)
    shown = images[labels == 1][:8]

    def score(variables):
        return lambda x: model.apply(variables, x)[:, 1] - model.apply(variables, x)[:, 0]

    trained, random = score({"params": params}), score(pictures.randomised(variables, jax.random.key(1)))
    for method in (
        pictures.saliency, pictures.integrated_gradients, lambda s, x: pictures.occlusion(s, x, size=1),
    ):  # fmt: skip
        found = np.asarray(method(trained, shown).pixels)
        assert (found.reshape(8, -1).argmax(1) == 1 * 8 + 6).all()
        other = np.asarray(method(random, shown).pixels)
        assert np.mean([pictures.similarity(a, b) for a, b in zip(found, other, strict=True)]) < 0.5


@pytest.mark.parametrize("name", ["token", "mean", "sequence"])
def test_a_rollout_is_the_product_of_its_layers(name):
    """The shares of what the head reads, from the layers' weights, by hand; `predict` doubles the picture."""
    shape, image = (6, 4, 1), RNG.random((2, 6, 4, 1)).astype(np.float32)
    sizes = dict(patch=2, width=8, num_layers=2, num_heads=2)
    model = CompactTransformer(3, shape, **sizes) if name == "sequence" else ViT(3, shape, pool=name, **sizes)
    variables = pictures.randomised(model.init(jax.random.key(0), image), jax.random.key(1))
    variables = {
        "params": jax.tree.map(lambda x: 3 * x + 0.1, variables["params"])
    }  # zeros at first would attend evenly

    def predict(x):
        return model.apply(variables, 2 * x)

    first, second = attention.maps(model, variables, 2 * image).values()
    tokens = first.shape[-1]
    assert tokens == 6 + (name == "token")
    layers = [0.5 * (layer[:, 0] / 2 + layer[:, 1] / 2) + 0.5 * np.eye(tokens) for layer in (first, second)]
    flow = np.einsum("btu,bus->bts", layers[1], layers[0])
    if name == "token":
        shares = flow[:, 0, 1:]
    elif name == "mean":
        shares = flow.mean(1)
    else:
        _, seen = model.apply(variables, 2 * image, capture_intermediates=True, mutable=["intermediates"])
        logits = seen["intermediates"]["pool"]["__call__"][0][..., 0]
        shares = (np.asarray(jax.nn.softmax(logits))[..., None] * flow).sum(1)
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    got = pictures.attention_rollout(predict, model, variables, image).pixels
    want = jax.image.resize(shares.reshape(2, 3, 2), (2, 6, 4), "linear")
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.ptp(got) > 1e-3
    other = pictures.attention_rollout(lambda x: model.apply(variables, x), model, variables, image).pixels
    assert not np.allclose(got, other, atol=1e-6)


def test_a_rollout_is_of_the_method_that_is_applied():
    """The features of a classifier's parts flow as in the classifier itself."""
    image = RNG.random((1, 4, 4, 1)).astype(np.float32)

    class Encoder(ViT):
        def embed(self, x):
            return self(x, False)

    sizes = dict(num_classes=3, image_shape=(4, 4, 1), patch=2, width=8, num_layers=1, num_heads=2)
    variables = ViT(**sizes).init(jax.random.key(0), image)
    want = pictures.attention_rollout(lambda x: ViT(**sizes).apply(variables, x), ViT(**sizes), variables, image).pixels
    model = Encoder(**sizes)
    got = pictures.attention_rollout(
        lambda x: model.apply(variables, x, method="embed"), model, variables, image
    ).pixels
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_network_without_attention_has_no_rollout():
    model = Pooled()
    variables = model.init(jax.random.key(0), IMAGE)
    with pytest.raises(UserError, match="the model has no attention"):
        pictures.attention_rollout(lambda x: model.apply(variables, x), model, variables, IMAGE)


def test_randomised_weights_keep_their_size():
    tree = {
        "params": {"kernel": jnp.array(RNG.normal(2, 3, (200, 200)), jnp.float32), "bias": jnp.zeros(5)},
        "stats": 1,
    }
    drawn = pictures.randomised(tree, jax.random.key(0))
    assert drawn["stats"] == 1 and not drawn["params"]["bias"].any()
    assert float(drawn["params"]["kernel"].mean()) == pytest.approx(2, abs=0.1)
    assert float(drawn["params"]["kernel"].std()) == pytest.approx(3, rel=0.05)
    assert abs(np.corrcoef(drawn["params"]["kernel"].ravel(), tree["params"]["kernel"].ravel())[0, 1]) < 0.05


def test_the_similarity_is_spearmans():
    a = np.array([[1.0, -2.0], [3.0, 4.0]])
    assert pictures.similarity(a, a**3) == pytest.approx(1) and pictures.similarity(a, 5 - a) == pytest.approx(-1)
    assert pictures.similarity(a, abs(a)) == pytest.approx(0.8)  # ranks 2 1 3 4 and 1 2 3 4: 1 - 6 * 2 / 60
    assert pictures.similarity(a, np.ones((2, 2))) == 0
