"""Convolutions in their CPU form against torch's and JAX's own, values and gradients."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import mesh
from research.nn.convolution import Window, conv

RNG = np.random.default_rng(0)


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(mesh, "platform", lambda: "cpu")


@pytest.mark.parity
@pytest.mark.parametrize(("size", "padding"), [((3, 3), "SAME"), ((5, 5), 2), ((5, 3), "VALID"), ((4, 4), "SAME")])
def test_it_is_a_convolution(on_cpu, size, padding):
    torch = pytest.importorskip("torch")
    images = RNG.normal(size=(2, 9, 8, 1)).astype(np.float32)
    layer = nn.Conv(6, size, padding=padding, use_bias=False, conv_general_dilated=conv)
    kernel = RNG.normal(size=(*size, 1, 6)).astype(np.float32)
    variables = {"params": {"kernel": jnp.asarray(kernel)}}
    y, pullback = jax.vjp(lambda x, v: layer.apply(v, x), jnp.asarray(images), variables)
    direction = RNG.normal(size=y.shape).astype(np.float32)
    dx, dv = pullback(jnp.asarray(direction))

    a = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    k = torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True)
    names = {"SAME": "same", "VALID": "valid"}
    out = torch.nn.functional.conv2d(a, k, padding=names.get(padding, padding))
    (out * torch.tensor(direction.transpose(0, 3, 1, 2))).sum().backward()
    np.testing.assert_allclose(y, out.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, a.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dv["params"]["kernel"], k.grad.numpy().transpose(2, 3, 1, 0), rtol=1e-4, atol=1e-4)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(layer.apply)(variables, images)).split("fwd")[0]


@pytest.mark.parity
@pytest.mark.parametrize(("size", "stride", "pad"), [((3, 3), 1, 1), ((5, 5), 2, 2), ((3, 5), (2, 1), (0, 1))])
def test_a_depthwise_convolution_of_few_pixels(on_cpu, size, stride, pad):
    torch = pytest.importorskip("torch")
    images, kernel = (RNG.normal(size=shape).astype(np.float32) for shape in ((2, 9, 8, 6), (*size, 1, 6)))
    pads = (pad, pad) if isinstance(pad, int) else pad
    layer = nn.Conv(
        6, size, stride, [(p, p) for p in pads], feature_group_count=6, use_bias=False, conv_general_dilated=conv
    )
    variables = {"params": {"kernel": jnp.asarray(kernel)}}
    y, pullback = jax.vjp(lambda x, v: layer.apply(v, x), jnp.asarray(images), variables)
    direction = RNG.normal(size=y.shape).astype(np.float32)
    dx, dv = pullback(jnp.asarray(direction))

    a = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    k = torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True)
    out = torch.nn.functional.conv2d(a, k, stride=stride, padding=pad, groups=6)
    (out * torch.tensor(direction.transpose(0, 3, 1, 2))).sum().backward()
    np.testing.assert_allclose(y, out.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, a.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dv["params"]["kernel"], k.grad.numpy().transpose(2, 3, 1, 0), rtol=1e-4, atol=1e-4)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(layer.apply)(variables, images))


@pytest.mark.parametrize(
    ("size", "stride", "shape", "padding"),
    [
        ((5, 5), 2, (9, 8), "SAME"),
        ((3, 3), 1, (17, 18), "SAME"),
        ((5, 5), 2, (18, 17), 3),
        ((3, 5), (2, 1), (17, 18), "VALID"),
    ],
)
def test_a_depthwise_convolution_is_jaxs_own_to_rounding(on_cpu, size, stride, shape, padding):
    images = jnp.asarray(RNG.normal(size=(2, *shape, 6)), jnp.float32)  # of 72, 306 and 306 pixels
    options = dict(strides=stride, padding=padding, feature_group_count=6)
    plain, ours = nn.Conv(6, size, **options), nn.Conv(6, size, **options, conv_general_dilated=conv)
    variables = plain.init(jax.random.key(0), images)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours.apply)(variables, images))
    y, pullback = jax.vjp(plain.apply, variables, images)
    found, back = jax.vjp(ours.apply, variables, images)
    direction = jnp.asarray(RNG.normal(size=y.shape), jnp.float32)
    chex.assert_trees_all_close((found, back(direction)), (y, pullback(direction)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [dict(strides=2), dict(kernel_dilation=2), dict(feature_group_count=2), dict()])
def test_every_other_case_is_jaxs_own(on_cpu, change):
    channels = 2 if change.get("feature_group_count") or not change else 1
    images = jnp.asarray(RNG.normal(size=(2, 9, 8, channels)), jnp.float32)
    variables = nn.Conv(4, (3, 3), **change).init(jax.random.key(0), images)
    ours = nn.Conv(4, (3, 3), conv_general_dilated=conv, **change).apply(variables, images)
    assert (ours == nn.Conv(4, (3, 3), **change).apply(variables, images)).all()


def test_without_a_cpus_mesh_it_is_jaxs_own():
    images = jnp.ones((2, 9, 8, 1))
    layer = nn.Conv(4, (3, 3), conv_general_dilated=conv)
    variables = layer.init(jax.random.key(0), images)
    assert "conv_general_dilated" in str(jax.make_jaxpr(layer.apply)(variables, images))


def test_a_window_is_a_convolution():
    """`jax.lax`'s convolution with zeros around, and before it one window of nothing but zeros."""
    x = jnp.float32(RNG.normal(size=(2, 7, 4)))
    kernel, bias = (jnp.float32(RNG.normal(size=shape)) for shape in ((3, 4, 5), (5,)))
    expected = jax.lax.conv_general_dilated(x, kernel, (1,), [(2, 2)], dimension_numbers=("NWC", "WIO", "NWC")) + bias
    ours = Window(3, 5).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(ours[:, 1:], expected, atol=1e-5)
    np.testing.assert_allclose(ours[:, 0], np.broadcast_to(bias, (2, 5)), atol=1e-6)
