from functools import cache

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.models.vision import inception_v3
from research.models.vision.inception_v3 import InceptionV3
from research.util.errors import UserError


@cache
def abstract(model, side):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))


def parameters(*layers):
    """Of convolutions without biases, each with a norm: (channels before and after, pixels of the kernel)."""
    return sum(before * after * pixels + 2 * after for before, after, pixels in layers)


def figure5(n, pooled):
    return parameters((n, 64, 1), (n, 48, 1), (48, 64, 25), (n, 64, 1), (64, 96, 9), (96, 96, 9), (n, pooled, 1))


def figure6(n):
    long = parameters((768, n, 1), (n, n, 7), (n, n, 7), (n, n, 7), (n, 192, 7))
    return long + parameters((768, 192, 1), (768, n, 1), (n, n, 7), (n, 192, 7), (768, 192, 1))


def figure7(n):
    sides = (384, 384, 3), (384, 384, 3)
    return parameters((n, 320, 1), (n, 384, 1), *sides, (n, 448, 1), (448, 384, 9), *sides, (n, 192, 1))


def test_parameters_by_hand():
    stem = parameters((3, 32, 9), (32, 32, 9), (32, 64, 9), (64, 80, 1), (80, 192, 9))
    reduction6 = parameters((288, 384, 9), (288, 64, 1), (64, 96, 9), (96, 96, 9))
    reduction7 = parameters((768, 192, 1), (192, 320, 9), (768, 192, 1), (192, 192, 7), (192, 192, 7), (192, 192, 9))
    trunk = stem + figure5(192, 32) + figure5(256, 64) + figure5(288, 64) + reduction6
    trunk += figure6(128) + 2 * figure6(160) + figure6(192) + reduction7 + figure7(1280) + figure7(2048)
    plain = trunk + 2048 * 1000 + 1000
    both = plain + parameters((768, 128, 1), (128, 768, 25)) + 768 * 1000 + 1000
    assert (plain, both) == (23_834_568, 27_161_264)  # torchvision's
    for auxiliary, wanted in ((0.0, plain), (0.4, both)):
        found = abstract(InceptionV3(1000, auxiliary=auxiliary), 299 if auxiliary else 75)["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(found)) == wanted


def test_sides_and_channels_are_table_1s_and_the_second_head_speaks_in_training():
    model, x = InceptionV3(1000), jnp.zeros((2, 299, 299, 3))
    options = {"mutable": ["batch_stats", "intermediates"], "capture_intermediates": True}

    def train(variables):
        return model.apply(variables, x, True, rngs={"dropout": jax.random.key(0)}, **options)

    (logits, heads), seen = jax.eval_shape(train, abstract(model, 299))
    names = "conv3", "conv5", "mixed_5d", "mixed_6e", "mixed_7c"
    assert {name: seen["intermediates"][name]["__call__"][0].shape[1:] for name in names} == {
        "conv3": (147, 147, 64),
        "conv5": (71, 71, 192),
        "mixed_5d": (35, 35, 288),
        "mixed_6e": (17, 17, 768),
        "mixed_7c": (8, 8, 2048),
    }
    assert [y.shape for y in (logits, *heads)] == [(2, 1000)] * 2


@pytest.mark.parametrize(("model", "side"), [(InceptionV3(1000), 298), (InceptionV3(1000, auxiliary=0.0), 74)])
def test_small_pictures_are_refused(model, side):
    """One pixel more is enough."""
    with pytest.raises(UserError, match=f"sides of at least {side + 1} are wanted"):
        abstract(model, side)
    assert abstract(model, side + 1)


def test_a_negative_weight_is_refused():
    with pytest.raises(UserError, match="model.auxiliary = -1.0: at least 0"):
        abstract(InceptionV3(10, auxiliary=-1.0), 299)


def test_sharding_rules_match_and_split_most():
    tree = abstract(InceptionV3(1000), 299)["params"]
    found = shardings(
        tree, inception_v3.SHARDING["fsdp"], AbstractMesh((2, 4), ("data", "model"))
    )  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
