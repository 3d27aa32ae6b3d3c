"""Johnson and others' network that restyles a picture in one pass (2016, 1603.08155), with instance normalisation."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.nn.convolution import conv

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}

Conv = partial(nn.Conv, padding="REFLECT", conv_general_dilated=conv)  # zeros at the edge become frames
# Instance normalisation (Ulyanov et al. 2016, 1607.08022). Its epsilon leaves a flat picture flat, and biases that are not 0
# keep that off the kink of the ReLU behind it, where rounding would choose the gradient.
Norm = partial(
    nn.GroupNorm, num_groups=None, group_size=1, epsilon=1e-3, use_fast_variance=False,
    bias_init=nn.initializers.normal(0.1),
)  # fmt: skip


class Stylist(nn.Module):
    """Pictures f[B, Y, X, C] in 0..1 of any size -> the same in the style that it was trained for, f[B, Y, X, C] in 0..1.

    Two convolutions of stride 2, residual blocks, and pixels repeated with a convolution in the place of the paper's transposed
    ones (Odena et al. 2016, Deconvolution and Checkerboard Artifacts). A picture whose sides are no multiples of 4 is continued
    by its edge, and cut again.
    """

    width: int = 16  # channels at full size, of which half and quarter size have 2 and 4 times as many
    blocks: int = 3
    kernel: int = 9  # pixels a side of the first and of the last convolution

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        B, Y, X, C = image.shape
        x = image - 0.5
        if Y % 4 or X % 4:  # jax2onnx has no such padding, not even one of nothing
            x = jnp.pad(x, ((0, 0), (0, -Y % 4), (0, -X % 4), (0, 0)), "edge")
        x = self._layer(x, "stem", 1, self.kernel)
        for i in (2, 4):
            x = self._layer(x, f"down{i}", i, stride=2)
        for i in range(self.blocks):
            h = self._layer(x, f"block{i}_in", 4)
            # Without a bias, which the next layer's normalisation would take out again.
            x += Norm(use_bias=False, name=f"block{i}_norm")(
                Conv(4 * self.width, (3, 3), use_bias=False, name=f"block{i}_out")(h)
            )
        for i in (2, 1):
            x = self._layer(x.repeat(2, 1).repeat(2, 2), f"up{i}", i)
        return nn.sigmoid(Conv(C, (self.kernel, self.kernel), name="head")(x))[:, :Y, :X]

    def _layer(self, x: jax.Array, name: str, times: int, kernel: int = 3, stride: int = 1) -> jax.Array:
        x = Conv(times * self.width, (kernel, kernel), stride, use_bias=False, name=name)(x)
        return nn.relu(Norm(name=f"{name}_norm")(x))
