"""Action recognition: parameters by hand and by torchvision's figure, means of views, a user's files, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.video import train
from experiments.video.configs import tiny
from experiments.video.model import VideoResNet
from research.core import config
from research.util.errors import UserError


def build(*changes):
    cfg = tiny.get_config()
    for change in changes:
        config.override(cfg, *change.split("=", 1))
    return train.build(cfg)


def drawn(init):
    """Variables of the shapes that `init(key)` has, all in 0.05 to 0.2, so that variances are above 0; without compiling it."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.05, 0.2, x.shape), x.dtype), shapes)


def parameters(model, clip):
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros(clip)), jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_the_3d_network_has_the_parameters_of_r3d_18():
    """Torchvision's documentation gives 33,371,472 for its r3d_18 of 400 classes."""
    model = VideoResNet(400, form="3d", widths=(64, 128, 256, 512), blocks=2, stem=7, stem_stride=2)
    assert parameters(model, (1, 8, 32, 32, 3)) == 33_371_472


def test_the_parameters_of_each_form_by_hand():
    """One stage of 8 channels on grey clips: the stem, its norm, two convolutions, their norms, and the head.

    Factorised, the stem has 27 * 8 // (9 + 3 * 8) = 6 channels between its factors and a convolution 27 * 64 // 96 = 18.
    """
    norms, head = 3 * 16, 8 * 5 + 5
    expected = {
        "3d": 27 * 8 + 2 * 27 * 64,
        "2d": 9 * 8 + 2 * 9 * 64,
        "2+1d": (9 * 6 + 12 + 3 * 6 * 8) + 2 * (9 * 8 * 18 + 36 + 3 * 18 * 8),
    }
    for form, convolutions in expected.items():
        assert parameters(VideoResNet(5, form, (8,)), (1, 4, 8, 8, 1)) == norms + head + convolutions


def test_single_frames_do_not_see_their_order_and_clips_do():
    clip = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 4, 8, 8, 1)), jnp.float32)
    for form, same in (("2d", True), ("2+1d", False)):
        model = VideoResNet(5, form, (8,))
        variables, apply = drawn(lambda key, model=model: model.init(key, clip)), jax.jit(model.apply)
        forward, backward = (apply(variables, each) for each in (clip, clip[:, ::-1]))
        assert np.allclose(forward, backward, atol=1e-5) == same


def test_a_clip_is_predicted_by_the_mean_of_its_views(tmp_path):
    e = build()
    variables = drawn(e.init_fn)
    clip = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    inputs = e.predictor.codec.encode(clip)
    assert inputs["clip"].shape == (1, 2, 4, 8, 8, 1)
    windows = np.stack([clip[:4], clip[6:]]).astype(np.float32) / 255
    np.testing.assert_array_equal(inputs["clip"][0], windows)
    expected = jax.nn.softmax(jax.jit(e.model.apply)(variables, windows)).mean(0)
    outputs = jax.jit(e.predictor.fn)(variables, inputs)
    np.testing.assert_allclose(outputs["probabilities"][0], expected, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(outputs["logits"][0]), expected, atol=1e-6)
    assert e.predictor.codec.decode(outputs)["class"] == e.data.classes[int(expected.argmax())]

    first, *rest = (Image.fromarray(frame[..., 0]) for frame in clip)
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    np.testing.assert_array_equal(e.predictor.codec.read(tmp_path / "a.gif"), clip)


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.frames=0", "data.frames = 0"),
        ("data.views=0", "data.views = 0"),
        ("data.source=files", "data.path is not set"),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        build(change)


def test_a_form_that_is_none_is_refused():
    with pytest.raises(UserError, match="model.form = '2.1d'"):
        VideoResNet(5, "2.1d").init(jax.random.key(0), jnp.zeros((1, 4, 8, 8, 1)))


def test_a_value_that_is_no_clip_is_refused():
    with pytest.raises(UserError, match=r"a clip is u8 or f32\[L, Y, X, C\]"):
        build().predictor.codec.encode(np.zeros((8, 8, 1)))
