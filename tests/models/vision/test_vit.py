import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.models.vision import vit
from research.models.vision.vit import ViT
from research.util.errors import UserError

IMAGENET = (224, 224, 3)
SMALL = dict(image_shape=(8, 12, 1), patch=4, width=16, num_layers=2, num_heads=2)


def abstract(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *model.image_shape)))["params"]


@pytest.mark.parametrize(
    ("width", "layers", "heads", "published"),  # DeiT's of the sizes Ti and S; torchvision's vit_b_16 and vit_l_16
    [(192, 12, 3, 5_717_416), (384, 12, 6, 22_050_664), (768, 12, 12, 86_567_656), (1024, 24, 16, 304_326_632)],
)
def test_parameter_counts(width, layers, heads, published):
    params = abstract(ViT(1000, IMAGENET, width=width, num_layers=layers, num_heads=heads))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published


def test_fixed_positions_and_mean_pooling_have_no_parameters():
    params = abstract(ViT(10, **SMALL, pool="mean", positions="sincos", representation=24))
    assert params.keys() & {"class_token", "position"} == set()
    assert params["representation"]["kernel"].shape == (16, 24) and params["head"]["kernel"].shape == (24, 10)


def test_initial_values_are_glorots_and_the_head_is_zero():
    model = ViT(10, **{**SMALL, "width": 256, "num_layers": 1, "num_heads": 4})
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 12, 1)))["params"]
    assert not params["head"]["kernel"].any() and not params["class_token"].any()
    for name, bound in {"qkv": (6 / 512) ** 0.5, "out": (6 / 512) ** 0.5}.items():  # fans of D and D
        kernel = np.asarray(params["h_0"]["attention"][name]["kernel"])
        assert 0.99 * bound < np.abs(kernel).max() <= bound
    up = np.asarray(params["h_0"]["feed_forward"]["up"]["kernel"])
    assert 0.99 * (6 / 1280) ** 0.5 < np.abs(up).max() <= (6 / 1280) ** 0.5


def test_patches_are_seen_row_by_row_and_positions_tell_them_apart():
    """Without positions and with mean pooling the order of the patches changes nothing."""
    x = jax.random.normal(jax.random.key(1), (1, 8, 12, 1))
    swapped = jnp.concatenate([x[:, 4:], x[:, :4]], axis=1)  # the two rows of patches
    model = ViT(5, **SMALL, pool="mean")
    variables = jax.jit(model.init)(jax.random.key(0), x)
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(2), (16, 5))
    apply = jax.jit(model.apply)
    assert np.abs(apply(variables, x) - apply(variables, swapped)).max() > 1e-3
    variables["params"]["position"] *= 0
    np.testing.assert_allclose(apply(variables, x), apply(variables, swapped), atol=1e-5)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_a_backbone_reads_the_visible_patches_alone(pool):
    """Its tokens are of the patches asked for, in their order, and no other pixel changes them."""
    x, visible = jax.random.normal(jax.random.key(1), (2, 8, 12, 1)), jnp.array([[4, 0], [1, 2]])
    model, first = ViT(0, **SMALL, pool=pool), int(pool == "token")
    variables = jax.jit(model.init)(jax.random.key(0), x)
    assert "head" not in variables["params"]
    apply = jax.jit(model.apply)
    tokens = apply(variables, x, visible=visible)
    assert tokens.shape == (2, first + 2, 16)
    hidden = x.at[0, :4, 4:].set(9.0).at[1, 4:].set(9.0)  # patches 1 and 2 of the first, 3 to 5 of the second
    np.testing.assert_allclose(apply(variables, hidden, visible=visible), tokens, atol=1e-6)
    swapped = apply(variables, x, visible=visible[:, ::-1])
    np.testing.assert_allclose(swapped[:, first:], tokens[:, first:][:, ::-1], atol=1e-5)
    everything = apply(variables, x, visible=jnp.tile(jnp.arange(6), (2, 1)))
    np.testing.assert_allclose(everything, apply(variables, x), atol=1e-6)


def test_training_drops_paths_and_computes_in_bfloat16():
    model = ViT(5, **SMALL, drop_path=0.5, dropout=0.1)
    low = jax.tree.map(lambda p: p.update(dtype=jnp.bfloat16), abstract(model))
    rngs = {"dropout": jax.random.key(0)}
    x = jnp.zeros((2, 8, 12, 1), jnp.bfloat16)
    assert jax.eval_shape(lambda p: model.apply({"params": p}, x, True, rngs=rngs), low).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch": 5}, "model.patch = 5: pictures of 8 x 12 pixels are no whole number of patches"),
        ({"patch": 16}, "model.patch = 16: pictures of 8 x 12 .* or pad the pictures by augment.pad"),
        ({"pool": "max"}, "model.pool = 'max'"),
        ({"positions": "learnt"}, "did you mean 'learned'"),
        ({"mlp": "gelo"}, "did you mean 'gelu'"),
        ({"num_heads": 3}, "model.width = 16 is no multiple of model.num_heads = 3"),
        ({"positions": "sincos", "width": 18}, "a multiple of 4"),
        ({"drop_path": 1.5}, "model.drop_path = 1.5"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        ViT(10, **{**SMALL, **changes})


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"pictures of \[8, 12, 3\]; this model takes \[8, 12, 1\]"):
        jax.eval_shape(ViT(10, **SMALL).init, jax.random.key(0), jnp.zeros((1, 8, 12, 3)))


@pytest.mark.parametrize("rules", vit.SHARDING)
def test_sharding_rules_match_and_split_most(rules):
    tree = abstract(ViT(1000, IMAGENET))
    found = shardings(tree, vit.SHARDING[rules], AbstractMesh((2, 4), ("data", "model")))  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
