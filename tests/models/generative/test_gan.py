"""Shapes and parameter counts by hand, packing, and batch statistics through `generate`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.generative import gan
from research.util.errors import UserError

KEY = jax.random.key(0)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_generator_has_pacgans_parameters():
    variables = gan.MLPGenerator(2).init(KEY, jnp.zeros((3, 2)))
    linear, norms, out = 2 * 400 + 3 * 400 * 400, 4 * 2 * 400, 400 * 2 + 2
    assert size(variables["params"]) == linear + norms + out == 484_802
    assert size(variables["batch_stats"]) == 4 * 2 * 400
    assert np.std(variables["params"]["Dense_1"]["kernel"]) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("pack", "published"), [(1, 405_201), (2, 407_201), (4, 411_201)])
def test_packing_widens_only_the_first_layer(pack, published):
    params = gan.MaxoutDiscriminator().init(KEY, jnp.zeros((3, 2 * pack)))["params"]
    hidden = 2 * (200 * 1000 + 1000)
    assert size(params) == (2 * pack * 1000 + 1000) + hidden + (200 + 1) == published


def test_maxout_unit_is_the_largest_of_its_pieces():
    model = gan.MaxoutDiscriminator(width=1, pieces=3, num_layers=1)
    dense = {"kernel": jnp.array([[1.0, -2.0, 0.0]]), "bias": jnp.array([0.0, 0.0, 1.5])}
    readout = {"kernel": jnp.array([[10.0]]), "bias": jnp.array([1.0])}
    variables = {"params": {"Dense_0": dense, "Dense_1": readout}}
    # max(2, -4, 1.5), max(-1, 2, 1.5), max(.5, -1, 1.5)
    logits = model.apply(variables, jnp.array([[2.0], [-1.0], [0.5]]))
    np.testing.assert_allclose(logits, [21, 21, 16])


def test_pack_is_concatenation():
    x = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(gan.pack(jnp.asarray(x), 3)[1], [2, 3, 6, 7, 10, 11])
    pictures = np.random.default_rng(0).random((4, 5, 5, 3))
    packed = gan.pack(jnp.asarray(pictures, jnp.float32), 2)
    np.testing.assert_allclose(packed, np.concatenate([pictures[:2], pictures[2:]], -1), rtol=1e-6)


def test_packed_discriminator_adds_what_its_slots_contribute():
    """A first layer on a pack is the sum of that layer's blocks on the slots."""
    x = jax.random.normal(KEY, (8, 2))
    model = gan.MaxoutDiscriminator(width=3, pieces=1, num_layers=1)
    variables = model.init(KEY, jnp.zeros((1, 4)))
    first, last = variables["params"]["Dense_0"], variables["params"]["Dense_1"]
    hidden = x[:4] @ first["kernel"][:2] + x[4:] @ first["kernel"][2:] + first["bias"]
    logits = model.apply(variables, gan.pack(x, 2))
    np.testing.assert_allclose(logits, (hidden @ last["kernel"] + last["bias"])[:, 0], atol=1e-6)


def test_generate_normalises_each_slot_alone_and_averages_the_statistics():
    model = gan.MLPGenerator(2, width=8, num_layers=1)
    variables = model.init(KEY, jnp.zeros((1, 2)))
    z = jax.random.normal(KEY, (2, 16, 2)) * jnp.array([1.0, 3.0])[:, None, None]
    x, new = gan.generate(model, variables, z)

    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"], np.float64)
    out = variables["params"]["Dense_1"]
    hidden = np.asarray(z, np.float64) @ kernel
    mean, var = hidden.mean(1, keepdims=True), hidden.var(1, keepdims=True)
    active = np.maximum((hidden - mean) / np.sqrt(var + 1e-4), 0)
    np.testing.assert_allclose(x, (active @ out["kernel"] + out["bias"]).reshape(32, 2), atol=1e-5)

    stats = new["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.05 * mean[:, 0].mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.95 + 0.05 * var[:, 0].mean(0), rtol=1e-5)


def test_evaluation_uses_running_statistics_and_examples_do_not_mix():
    model = gan.MLPGenerator(2, width=8, num_layers=2)
    variables = model.init(KEY, jnp.zeros((1, 2)))
    z = jax.random.normal(KEY, (6, 2))
    x = model.apply(variables, z)
    np.testing.assert_allclose(x[:2], model.apply(variables, z[:2]), atol=1e-6)
    trained, _ = gan.generate(model, variables, z[None])
    assert not np.allclose(trained, x, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("shape", "count"),
    [((28, 28, 1), 2), ((32, 32, 3), 3), ((8, 8, 1), 1), ((64, 64, 3), 4), ((28, 32, 1), 2)],
)
def test_dcgan_shapes(shape, count):
    assert gan.stages(*shape[:2]) == count
    generator, discriminator = gan.DCGANGenerator(shape, width=4), gan.DCGANDiscriminator(width=4)
    z = jnp.zeros((2, 10))
    x = jax.eval_shape(lambda: generator.init_with_output(KEY, z))[0]
    assert x.shape == (2, *shape)
    logits = jax.eval_shape(lambda: discriminator.init_with_output(KEY, jnp.zeros(x.shape)))[0]
    assert logits.shape == (2,)


def test_dcgan_counts_of_radfords_figure_1():
    """64 x 64 from 100 numbers: 1024, 512, 256, 128 maps of 5 x 5 kernels, then 3."""
    generator = gan.DCGANGenerator((64, 64, 3), width=128)
    params = jax.eval_shape(lambda: generator.init(KEY, jnp.zeros((1, 100))))["params"]
    project = 100 * 4 * 4 * 1024
    convolutions = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 3
    norms = 2 * (1024 + 512 + 256 + 128)
    assert size(params) == project + convolutions + norms


def test_dcgan_generator_stays_in_range_and_threads_statistics():
    generator = gan.DCGANGenerator((8, 8, 1), width=4)
    variables = jax.jit(generator.init)(KEY, jnp.zeros((1, 3)))
    generate = jax.jit(lambda z: gan.generate(generator, variables, z))
    x, new = generate(100 * jax.random.normal(KEY, (1, 5, 3)))
    assert x.shape == (5, 8, 8, 1) and 0 <= x.min() < 0.5 < x.max() <= 1
    assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    assert new["batch_stats"]["BatchNorm_0"]["var"].max() > 1


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_critic_without_batch_norm_treats_examples_apart(norm):
    critic = gan.DCGANDiscriminator(width=4, norm=norm)
    x = jax.random.uniform(KEY, (4, 16, 16, 1))
    variables = jax.jit(critic.init)(KEY, x)
    assert set(variables) == {"params"}
    assert ("LayerNorm_0" in variables["params"]) == (norm == "layer")
    scores = jax.jit(lambda x: critic.apply(variables, x, train=True))
    whole, alone = scores(x), scores(x[:1])
    np.testing.assert_allclose(whole[:1], alone, atol=1e-6)


def test_bad_values_are_named():
    with pytest.raises(UserError, match="7 x 28"):
        gan.stages(7, 28)
    with pytest.raises(UserError, match="'batchnorm'"):
        gan.DCGANDiscriminator(norm="batchnorm").init(KEY, jnp.zeros((1, 8, 8, 1)))
