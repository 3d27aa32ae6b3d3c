"""Sums of shifted 2-D convolutions against torch's Conv3d and JAX's own; factors against the full kernel."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import mesh
from research.nn.convolution3d import conv3d

RNG = np.random.default_rng(0)
KERNELS = [
    ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ((3, 5, 3), (2, 2, 1), (1, 2, 0)),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
    ((1, 1, 1), (2, 2, 2), (0, 0, 0)),
]


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr(mesh, "platform", lambda: "cpu")


def example(size, channels=(2, 4)):
    clip = RNG.normal(size=(2, 6, 7, 8, channels[0])).astype(np.float32)
    return clip, RNG.normal(size=(*size, *channels)).astype(np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("channels", [(2, 4), (1, 4)])
@pytest.mark.parametrize(("size", "strides", "pads"), KERNELS)
def test_it_is_torchs_conv3d(size, strides, pads, channels):
    torch = pytest.importorskip("torch")
    clip, kernel = example(size, channels)
    layer = nn.Conv(4, size, strides, [(p, p) for p in pads], use_bias=False, conv_general_dilated=conv3d)
    y, pullback = jax.vjp(
        lambda x, k: layer.apply({"params": {"kernel": k}}, x), jnp.asarray(clip), jnp.asarray(kernel)
    )
    direction = RNG.normal(size=y.shape).astype(np.float32)
    dx, dk = pullback(jnp.asarray(direction))

    a = torch.tensor(clip.transpose(0, 4, 1, 2, 3), requires_grad=True)
    k = torch.tensor(kernel.transpose(4, 3, 0, 1, 2), requires_grad=True)
    out = torch.nn.functional.conv3d(a, k, stride=strides, padding=pads)
    (out * torch.tensor(direction.transpose(0, 4, 1, 2, 3))).sum().backward()
    np.testing.assert_allclose(y, out.detach().numpy().transpose(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, a.grad.numpy().transpose(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dk, k.grad.numpy().transpose(2, 3, 4, 1, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "strides", "pads"), KERNELS[:2])
def test_paddings_by_name_are_jaxs(size, strides, pads, padding):
    clip, kernel = example(size)
    numbers = {"dimension_numbers": ("NTHWC", "THWIO", "NTHWC")}
    expected = jax.lax.conv_general_dilated(clip, kernel, strides, padding, **numbers)
    np.testing.assert_allclose(conv3d(clip, kernel, strides, padding, **numbers), expected, rtol=1e-4, atol=1e-4)


def test_no_3d_convolution_is_left_on_a_cpu():
    clip, kernel = example((3, 3, 3))
    traced = str(
        jax.make_jaxpr(partial(conv3d, strides=(1, 1, 1), padding="SAME"))(jnp.asarray(clip), jnp.asarray(kernel))
    )
    assert "rhs_spec=(3, 2, 0, 1)" in traced and "(4, 3, 0, 1, 2)" not in traced


def test_a_separable_kernel_is_its_factors_in_turn():
    """The full kernel's entry is the sum over the middle channels of space's and time's."""
    clip, space = example((3, 3), (2, 5))
    time = RNG.normal(size=(3, 5, 4)).astype(np.float32)
    full = np.einsum("yxim,tmo->tyxio", space, time)
    one = (1, 1, 1)
    factors = conv3d(
        conv3d(clip, space[None], one, ((0, 0), (1, 1), (1, 1))), time[:, None, None], one, ((1, 1), (0, 0), (0, 0))
    )
    np.testing.assert_allclose(factors, conv3d(clip, full, one, ((1, 1),) * 3), rtol=1e-4, atol=1e-3)
