"""What `almanac explain` shows of families that are no classifiers, with random weights."""

import io
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from research.core import config
from research.interpret import pictures
from research.run import reopen
from research.util.errors import UserError
from tools.verbs import explain_picture

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def verifier():
    e = reopen.build("verification", config.load("verification/tiny", []))
    return e, SimpleNamespace(variables=jax.jit(e.init_fn)(jax.random.key(0)))


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam"])
def test_two_pictures_have_a_map_each(verifier, method):
    first, second = RNG.random((2, 8, 8, 1)).astype(np.float32)
    found = explain_picture.explain(*verifier, first, method, steps=2, chosen={"other": second})
    assert found.pixels.shape == (2, 8, 8) and found.facts[0].startswith("cosine ")
    with Image.open(io.BytesIO(found.image)) as image:
        assert image.format == "PNG" and image.height > image.width  # above one another: picture, map, both
    if method == "integrated_gradients":
        assert [line.split(":")[0] for line in found.facts[1:]] == ["the first picture", "the second picture"]
        sums = [float(line.split("sum is ")[1].split(":")[0]) for line in found.facts[1:]]
        np.testing.assert_allclose(sums, found.pixels.sum((1, 2)), atol=1e-4)


def test_a_clip_has_a_map_for_each_frame_and_its_sanity():
    e = reopen.build("video", config.load("video/tiny", []))
    state = SimpleNamespace(variables=jax.jit(e.init_fn)(jax.random.key(0)))
    state.variables = pictures.randomised(state.variables, jax.random.key(1))
    clip = RNG.random((6, 8, 8, 1)).astype(np.float32)
    found = explain_picture.explain(e, state, clip, "saliency", sanity=True, chosen={"class_name": e.data.classes[1]})
    assert found.pixels.shape == (4, 8, 8) and found.facts[0].startswith(f"{e.data.classes[1]}: probability 0.")
    assert found.facts[-1].startswith("rank correlation with the map of random weights")


@pytest.mark.parametrize(
    ("method", "chosen", "error"),
    [
        ("saliency", {}, "give the second by --with=FILE"),
        ("saliency", {"unit": 3}, "--unit is not an option of verification/tiny, which takes --with"),
        (
            "attention_rollout",
            {"other": np.zeros((8, 8, 1), np.float32)},
            "the model is no transformer of patches alone",
        ),
        ("occlusion", {"other": np.zeros((8, 8, 1), np.float32)}, "a square of 9 pixels does not fit into 8 x 8"),
    ],
)
def test_what_two_pictures_cannot_be_asked(verifier, method, chosen, error):
    with pytest.raises(UserError) as caught:
        explain_picture.explain(*verifier, np.ones((8, 8, 1), np.float32), method, size=9, chosen=chosen)
    assert error in str(caught.value)


def test_the_picture_that_an_encoder_s_unit_prefers():
    e = reopen.build("vae", config.load("vae/tiny", ["model.conditional=False"]))
    state = SimpleNamespace(variables=jax.jit(e.init_fn)(jax.random.key(0)))
    found = explain_picture.preferred_unit(e, state, 3, steps=60)
    reached, largest = re.fullmatch(r"unit 3: (\S+), .* of \d+ pictures of valid (\S+)", found.facts[0]).groups()
    mean = e.predictor.fn(state.variables, {"image": found.pixels})["mean"][0, 3]
    assert float(reached) == pytest.approx(float(mean), abs=0.006) and float(reached) > float(largest)
    conditional = reopen.build("vae", config.load("vae/tiny", []))
    with pytest.raises(UserError, match="reads a class, too"):
        explain_picture.preferred_unit(conditional, state, 3)
