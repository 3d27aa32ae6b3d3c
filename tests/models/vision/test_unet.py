"""U-Net: the paper's parameters, shapes, what a pixel of the logits depends on, bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.vision.unet import UNet, reach, stride
from research.util.errors import UserError


def count(model, channels=1):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, channels)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_are_the_papers():
    """Figure 1, a level at a time: 3 x 3 kernels and biases, up-convolutions of 2 x 2, and the 1 x 1 of two classes."""

    def pair(inputs, width):
        return 9 * inputs * width + width + 9 * width * width + width

    down = pair(1, 64) + pair(64, 128) + pair(128, 256) + pair(256, 512) + pair(512, 1024)
    up = sum(4 * 2 * width * width + width + pair(2 * width, width) for width in (512, 256, 128, 64))
    assert down + up + 64 * 2 + 2 == 31_030_658
    assert count(UNet(2, norm="none")) == 31_030_658
    # a scale and a shift in place of the bias of each 3 x 3 convolution
    assert count(UNet(2)) == 31_030_658 + 2 * (64 + 128 + 256 + 512) * 2 + 2 * 1024


@pytest.mark.parametrize("widths, up", [((2, 2, 2), "convolution"), ((2, 3), "resize")])
def test_logits_reach_as_far_as_is_said(widths, up):
    """The gradient of a block's logits is zero further than `reach`, and not zero close to it."""
    model = UNet(2, widths, "none", up)
    block, size = stride(model), 2 * reach(model) + 20
    start = size // 2 // block * block
    x = jax.random.normal(jax.random.key(1), (1, size // block * block, block * 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    def outputs(x):
        return jnp.square(model.apply(variables, x)[0, start : start + block]).sum()

    rows = np.flatnonzero(np.abs(jax.jit(jax.grad(outputs))(x)).sum((0, 2, 3)))
    assert start - reach(model) <= rows.min() <= start - reach(model) + 4
    assert start + block + reach(model) - 5 <= rows.max() < start + block + reach(model)


def test_a_group_norm_is_one_pictures():
    """A picture's logits do not depend on the others of its batch, in training either."""
    model, x = UNet(2, (4, 4), "group"), jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    apply = jax.jit(lambda x: model.apply(variables, x, train=True))
    np.testing.assert_allclose(apply(x)[:1], apply(jnp.concatenate([x[:1], 5 * x[1:]]))[:1], atol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(norm="layer"), "model.norm = 'layer'"),
        (dict(up="bilinear"), "model.up = 'bilinear'"),
        (
            dict(widths=(2, 2, 2, 2)),
            "pictures of 4 x 8: the sides must be multiples of 8, as model.widths has 4 levels",
        ),
    ],
)
def test_what_means_nothing_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        UNet(2, **{"widths": (2, 2), **change}).init(jax.random.key(0), jnp.zeros((1, 4, 8, 1)))
