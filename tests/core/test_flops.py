from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from research.core import flops


def count(fn, *shapes):
    return flops.count(jax.make_jaxpr(fn)(*[jnp.zeros(s) for s in shapes]))


def test_products():
    assert count(lambda x, w, b: x @ w + b, (5, 7), (7, 3), (3,)) == 2 * 5 * 7 * 3
    attention = 2 * (2 * 5) * (3 * 4 * 6)
    assert count(lambda q, k: jnp.einsum("bthk,bshk->bhts", q, k), (2, 3, 5, 6), (2, 4, 5, 6)) == attention
    assert count(lambda x: jnp.exp(x) + x, (100,)) == 0


def test_backward_is_twice_forward_less_what_is_not_needed():
    first, second = 2 * 5 * 7 * 11, 2 * 5 * 11 * 3

    def loss(w1, w2, x):
        return jnp.sum(jnp.tanh(x @ w1) @ w2)

    shapes = (7, 11), (11, 3), (5, 7)
    assert count(loss, *shapes) == first + second
    assert count(jax.value_and_grad(loss, (0, 1)), *shapes) == 2 * first + 3 * second  # not of x
    assert count(jax.value_and_grad(loss, (0, 1, 2)), *shapes) == 3 * first + 3 * second
    assert count(jax.value_and_grad(loss, 1), *shapes) == first + 2 * second


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "rows", "padding"),
    [
        ((3, 3, 3, 4), 1, 1, 8, "SAME"),
        ((3, 3, 3, 4), 2, 1, 4, "SAME"),
        ((5, 5, 3, 4), 1, 1, 4, "VALID"),
        ((3, 3, 1, 6), 1, 3, 8, "SAME"),  # depthwise, two outputs a channel
    ],
)
def test_convolutions(kernel, stride, groups, rows, padding):
    def conv(x, k):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, k, (stride, stride), padding, dimension_numbers=dims, feature_group_count=groups
        )

    window = kernel[0] * kernel[1] * kernel[2]
    forward = 2 * (2 * rows * rows * kernel[3]) * window
    shapes = (2, 8, 8, 3), kernel
    assert count(conv, *shapes) == forward

    def loss(x, k):
        return jnp.sum(jnp.square(conv(x, k)))

    assert count(jax.value_and_grad(loss, 1), *shapes) == 2 * forward
    if padding == "SAME":  # elsewhere the input's gradient also multiplies its padding
        assert count(jax.value_and_grad(loss, (0, 1)), *shapes) == 3 * forward


def test_a_scan_counts_every_layer():
    layers, one = 6, 2 * 4 * 8 * 8

    def loss(ws, x, wrap=lambda f: f):
        return jnp.sum(jax.lax.scan(wrap(lambda h, w: (jnp.tanh(h @ w), None)), x, ws)[0])

    shapes = (layers, 8, 8), (4, 8)
    assert count(loss, *shapes) == layers * one
    assert count(jax.jit(loss), *shapes) == layers * one
    assert count(jax.value_and_grad(loss), *shapes) == 3 * layers * one
    recomputed = jax.value_and_grad(lambda ws, x: loss(ws, x, jax.checkpoint))
    assert count(recomputed, *shapes) == 4 * layers * one


def test_a_cond_counts_its_dearest_branch():
    def fn(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)

    assert count(fn, (4, 8), (8, 8)) == 2 * (2 * 4 * 8 * 8)


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA H100 80GB HBM3", 989),
        ("cpu", None),
    ],
)
def test_peaks(kind, tflops):
    peak = flops.peak(SimpleNamespace(device_kind=kind))
    assert peak == (tflops and tflops * 1e12)
