"""Shapes and parameter counts by hand, packing, and batch statistics through `generate`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

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
    generator, discriminator = gan.DCGANGenerator(shape, 0, width=4), gan.DCGANDiscriminator(0, width=4)
    z = jnp.zeros((2, 10))
    x = jax.eval_shape(lambda: generator.init_with_output(KEY, z))[0]
    assert x.shape == (2, *shape)
    logits = jax.eval_shape(lambda: discriminator.init_with_output(KEY, jnp.zeros(x.shape)))[0]
    assert logits.shape == (2,)


def test_dcgan_counts_of_radfords_figure_1():
    """64 x 64 from 100 numbers: 1024, 512, 256, 128 maps of 5 x 5 kernels, then 3."""
    generator = gan.DCGANGenerator((64, 64, 3), 0, width=128)
    params = jax.eval_shape(lambda: generator.init(KEY, jnp.zeros((1, 100))))["params"]
    project = 100 * 4 * 4 * 1024
    convolutions = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 3
    norms = 2 * (1024 + 512 + 256 + 128)
    assert size(params) == project + convolutions + norms


def test_dcgan_generator_stays_in_range_and_threads_statistics():
    generator = gan.DCGANGenerator((8, 8, 1), 0, width=4)
    variables = jax.jit(generator.init)(KEY, jnp.zeros((1, 3)))
    generate = jax.jit(lambda z: gan.generate(generator, variables, z))
    x, new = generate(100 * jax.random.normal(KEY, (1, 5, 3)))
    assert x.shape == (5, 8, 8, 1) and 0 <= x.min() < 0.5 < x.max() <= 1
    assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    assert new["batch_stats"]["BatchNorm_0"]["var"].max() > 1


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_critic_without_batch_norm_treats_examples_apart(norm):
    critic = gan.DCGANDiscriminator(0, width=4, norm=norm)
    x = jax.random.uniform(KEY, (4, 16, 16, 1))
    variables = jax.jit(critic.init)(KEY, x)
    assert set(variables) == {"params"}
    assert ("LayerNorm_0" in variables["params"]) == (norm == "layer")
    scores = jax.jit(lambda x: critic.apply(variables, x, train=True))
    whole, alone = scores(x), scores(x[:1])
    np.testing.assert_allclose(whole[:1], alone, atol=1e-6)


def spectral(width=3, rows=8, num_classes=0):
    """A discriminator with spectral norm, pictures, their classes, and its variables."""
    model = gan.DCGANDiscriminator(num_classes, width=width, norm="spectral")
    x, label = jax.random.uniform(KEY, (5, rows, rows, 1)), jnp.arange(5) % max(1, num_classes)
    return model, x, label, jax.jit(model.init)(KEY, x, label)


def test_power_iteration_finds_the_largest_singular_value():
    """After many training passes, as NumPy's SVD has it; the pass then is that of the divided weights."""
    model, x, label, variables = spectral(rows=16, num_classes=4)
    advance = jax.jit(lambda variables: model.apply(variables, x, label, train=True, mutable=["batch_stats"]))
    for _ in range(200):
        logits, stats = advance(variables)
        variables = {**variables, **stats}
    found = {k: v for vectors in variables["batch_stats"].values() for k, v in vectors.items()}
    divided = jax.tree.map(np.asarray, variables["params"])
    for layer, name in (("Conv_0", "kernel"), ("Conv_1", "kernel"), ("Dense_0", "kernel"), ("Embed_0", "embedding")):
        weight = divided[layer][name]
        largest = np.linalg.svd(weight.reshape(-1, weight.shape[-1]).astype(np.float64), compute_uv=False)[0]
        np.testing.assert_allclose(found[f"{layer}/{name}/sigma"], largest, rtol=1e-5)
        divided[layer] = {**divided[layer], name: weight / np.float32(largest)}
    plain = gan.DCGANDiscriminator(4, width=3, norm="none")
    np.testing.assert_allclose(logits, jax.jit(plain.apply)({"params": divided}, x, label), rtol=1e-4, atol=1e-6)


def test_only_a_training_pass_moves_the_power_iteration():
    model, x, _, variables = spectral()
    for train in (False, True):
        _, after = jax.jit(partial(model.apply, train=train, mutable=["batch_stats"]))(variables, x)
        before, after = (traverse_util.flatten_dict(tree["batch_stats"]) for tree in (variables, after))
        same = [np.array_equal(before[path], after[path]) for path in before if path[-1].endswith("/u")]
        assert len(same) == 2 and (not any(same) if train else all(same))


def test_the_projection_is_added_to_the_logit():
    """Where a class's embedding is c times the last layer's weights w, the logit w h + b becomes (1 + c) w h + b."""
    model, plain = (gan.DCGANDiscriminator(n, width=3, norm="none") for n in (3, 0))
    x, times = jax.random.uniform(KEY, (6, 8, 8, 1)), np.array([0.0, 2.0, -1.0], np.float32)
    label = np.array([0, 1, 2, 2, 1, 0])
    params = jax.jit(plain.init)(KEY, x)["params"]
    last = params["Dense_0"] | {"bias": jnp.array([0.3])}
    embedding = {"embedding": times[:, None] * last["kernel"][:, 0]}
    alone = jax.jit(plain.apply)({"params": params | {"Dense_0": last}}, x)
    projected = jax.jit(model.apply)({"params": params | {"Dense_0": last, "Embed_0": embedding}}, x, label)
    np.testing.assert_allclose(projected, (1 + times[label]) * (alone - 0.3) + 0.3, rtol=1e-5)


def test_conditional_batch_norm_has_a_scale_and_a_bias_of_each_class():
    model = gan.ConditionalBatchNorm(2)
    x, label = jax.random.normal(KEY, (6, 3, 3, 4)), np.array([0, 1, 1, 0, 1, 0])
    variables = jax.jit(model.init, static_argnums=3)(KEY, x, label, True)
    apply = jax.jit(lambda variables: model.apply(variables, x, label, True, mutable=["batch_stats"])[0])
    scale, bias = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)
    params = {"scale": {"embedding": scale}, "bias": {"embedding": bias}}
    y = apply({**variables, "params": params})
    flat = np.asarray(x, np.float64)
    normal = (flat - flat.mean((0, 1, 2))) / np.sqrt(flat.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(y, normal * scale[label][:, None, None] + bias[label][:, None, None], atol=1e-5)
    np.testing.assert_allclose(apply(variables), normal, atol=1e-5)  # a scale of 1 and a bias of 0 at first


@pytest.mark.parity
def test_spectral_norm_agrees_with_torch():
    """The same weights and first vectors: the power iteration's vectors, the values and the logits over three passes."""
    torch = pytest.importorskip("torch")
    model, x, _, variables = spectral()
    convolution = torch.nn.Conv2d(1, 3, 5, 2)
    linear = torch.nn.Linear(4 * 4 * 3, 1)
    layers = {"Conv_0": torch.nn.utils.spectral_norm(convolution), "Dense_0": torch.nn.utils.spectral_norm(linear)}
    for (name, layer), vectors in zip(layers.items(), variables["batch_stats"].values(), strict=True):
        weight = np.array(variables["params"][name]["kernel"])
        layer.weight_orig.data = torch.tensor(
            weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T
        ).contiguous()
        layer.bias.data.zero_()
        layer.weight_u = torch.nn.functional.normalize(torch.tensor(np.array(vectors[f"{name}/kernel/u"])[0]), dim=0)
    advance = jax.jit(lambda variables: model.apply(variables, x, train=True, mutable=["batch_stats"]))
    for _ in range(3):
        ours, stats = advance(variables)
        variables = {**variables, **stats}
        pictures = torch.tensor(np.array(2 * x - 1).transpose(0, 3, 1, 2))
        # Flax pads a stride of two by one pixel before and two after.
        h = torch.nn.functional.leaky_relu(layers["Conv_0"](torch.nn.functional.pad(pictures, (1, 2, 1, 2))), 0.2)
        theirs = layers["Dense_0"](h.permute(0, 2, 3, 1).reshape(len(h), -1))[:, 0]
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)
        for (name, layer), vectors in zip(layers.items(), variables["batch_stats"].values(), strict=True):
            np.testing.assert_allclose(vectors[f"{name}/kernel/u"][0], layer.weight_u.numpy(), rtol=1e-4, atol=1e-6)


def test_bad_values_are_named():
    with pytest.raises(UserError, match="7 x 28"):
        gan.stages(7, 28)
    with pytest.raises(UserError, match="'batchnorm'"):
        gan.DCGANDiscriminator(0, norm="batchnorm").init(KEY, jnp.zeros((1, 8, 8, 1)))
