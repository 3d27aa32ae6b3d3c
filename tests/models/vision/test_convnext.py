import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.models.vision import convnext
from research.models.vision.convnext import ConvNeXt
from research.util.errors import UserError

SMALL = dict(image_shape=(16, 8, 3), depths=(1, 2), widths=(8, 12))


def abstract(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *model.image_shape)))["params"]


@pytest.mark.parametrize(
    ("depths", "widths", "published"),  # torchvision's convnext_tiny, _small and _base
    [
        ((3, 3, 9, 3), (96, 192, 384, 768), 28_589_128),
        ((3, 3, 27, 3), (96, 192, 384, 768), 50_223_688),
        ((3, 3, 27, 3), (128, 256, 512, 1024), 88_591_464),
    ],
)
def test_parameter_counts(depths, widths, published):
    params = abstract(ConvNeXt(1000, (224, 224, 3), depths, widths))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published


def test_a_block_starts_as_its_shortcut():
    """The residual branches are scaled by 1e-6: the logits hardly depend on them."""
    model, x = ConvNeXt(5, **SMALL), jax.random.normal(jax.random.key(1), (2, 16, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    without = jax.tree_util.tree_map_with_path(
        lambda path, v: v * 0 if path[-1].key == "scale" and "block" in path[-2].key else v, variables
    )
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), jax.jit(model.apply)(without, x), atol=1e-6)


def test_the_scale_may_be_left_out():
    assert "scale" not in abstract(ConvNeXt(5, **SMALL, layer_scale=0.0))["stage0_block0"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_shape": (28, 28, 1)}, "pictures of 28 x 28 pixels: model.patch and 2 stages need a multiple of 8"),
        ({"depths": (1, 2, 3)}, "one of each a stage"),
        ({"patch": 0}, "model.patch = 0"),
        ({"drop_path": -0.1}, "model.drop_path = -0.1"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        ConvNeXt(5, **{**SMALL, **changes})


@pytest.mark.parametrize("rules", convnext.SHARDING)
def test_sharding_rules_match_and_split_most(rules):
    tree = abstract(ConvNeXt(1000, (224, 224, 3)))
    found = shardings(tree, convnext.SHARDING[rules], AbstractMesh((2, 4), ("data", "model")))  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
