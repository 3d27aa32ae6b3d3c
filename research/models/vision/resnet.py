"""Residual networks for ImageNet and CIFAR images (He et al. 2015, arXiv 1512.03385)."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from research.core.arrays import Array
from research.core.mesh import shard_activations
from research.nn.convolution import conv
from research.util.errors import UserError, nearest

# form -> depth -> (bottlenecks?, blocks in each stage). CIFAR: depth = 6n + 2; 8 is for tests.
LAYOUTS: dict[str, dict[int, tuple[bool, tuple[int, ...]]]] = {
    "imagenet": {
        18: (False, (2, 2, 2, 2)),
        34: (False, (3, 4, 6, 3)),
        50: (True, (3, 4, 6, 3)),
        101: (True, (3, 4, 23, 3)),
        152: (True, (3, 8, 36, 3)),
    },
    "cifar": {6 * n + 2: (False, (n, n, n)) for n in (1, 3, 5, 7, 9, 18)},
}

# Axes are aligned to the last dimensions. Kernels are [k, k, I, O] or [D, N]; norms are [O].
SHARDING = {
    "fsdp": ((r"kernel$", "fsdp"),),
    # A block's inner channels are split and `out` sums over them: one all-reduce of the stream for
    # each block, as in Megatron. A bottleneck's conv2 also gathers conv1's few channels.
    "tensor": (
        (r"conv\d/kernel$", ("model",)),
        (r"/norm\d/(scale|bias|mean|var)$", ("model",)),
        (r"(out|shortcut|head)/kernel$", ("model", None)),
    ),
}

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# torch's momentum=0.1. torch also stores the unbiased variance n/(n-1); this is the biased one.
Norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)
Conv = partial(nn.Conv, use_bias=False, kernel_init=he_normal, conv_general_dilated=conv)


class Block(nn.Module):
    """f32[B, Y, X, I] -> f32[B, Y/stride, X/stride, O], O = 4 channels in a bottleneck."""

    channels: int
    stride: int
    bottleneck: bool
    shortcut: str
    zero_init: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X I"], train: bool) -> Float[Array, "B _ _ O"]:
        norm = partial(Norm, use_running_average=not train)
        conv3 = partial(Conv, kernel_size=(3, 3), padding=1)
        conv1 = partial(Conv, kernel_size=(1, 1))
        width, stride = self.channels, self.stride
        if self.bottleneck:  # v1.5: the stride is on the 3x3 convolution
            y = nn.relu(norm(name="norm1")(conv1(width, name="conv1")(x)))
            y = nn.relu(norm(name="norm2")(conv3(width, strides=stride, name="conv2")(y)))
            y = conv1(4 * width, name="out")(y)
        else:
            y = nn.relu(norm(name="norm1")(conv3(width, strides=stride, name="conv1")(x)))
            y = conv3(width, name="out")(y)
        last = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        y = norm(scale_init=last, name="out_norm")(y)
        if x.shape != y.shape:
            grow = y.shape[-1] - x.shape[-1]
            if self.shortcut == "pad":
                x = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, grow)))
            else:
                x = conv1(y.shape[-1], strides=stride, name="shortcut")(x)
                x = norm(name="shortcut_norm")(x)
        return shard_activations(nn.relu(x + y))


class ResNet(nn.Module):
    """Images -> logits; with `num_classes=0` a backbone: each stage's
    output, at strides 4, 8, 16, 32 ("imagenet") or 1, 2, 4 ("cifar").

    form      "imagenet" (depth 18, 34, 50, 101, 152; v1.5 strides) or "cifar" (section 4.2:
              20, 32, 44, 56, 110)
    shortcut  where the shape changes: "projection" (option B: 1x1 convolution and norm) or "pad"
              (option A: every second pixel, zero channels appended; the paper's for CIFAR)
    zero_init each block starts as its shortcut (Goyal et al. 2017, 1706.02677, section 5.1)
    width     channels of the stem; 0 means the paper's 64 or 16

    Running statistics are in "batch_stats"; with `train` they are those of the global batch, under
    jit over any number of devices. Blocks are unrolled: XLA's CPU convolutions are slow in a scan.
    Raises UserError for an unknown form, depth or shortcut.
    """

    num_classes: int
    depth: int = 50
    form: str = "imagenet"
    shortcut: str = "projection"
    zero_init: bool = False
    width: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "B Y X C"], train: bool = False
    ) -> Float[Array, "B N"] | tuple[Float[Array, "B _ _ _"], ...]:
        bottleneck, stages = self._layout()
        if self.form == "imagenet":
            x = Conv(self.width or 64, (7, 7), strides=2, padding=3, name="stem")(x)
        else:
            x = Conv(self.width or 16, (3, 3), padding=1, name="stem")(x)
        width = x.shape[-1]
        x = shard_activations(nn.relu(Norm(use_running_average=not train, name="stem_norm")(x)))
        if self.form == "imagenet":
            x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

        outputs = []
        for i, blocks in enumerate(stages):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                block = Block(
                    width * 2**i, stride, bottleneck, self.shortcut, self.zero_init, name=f"stage{i}_block{j}"
                )
                x = block(x, train)
            outputs.append(x)
        if self.num_classes == 0:
            return tuple(outputs)
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))

    def _layout(self) -> tuple[bool, tuple[int, ...]]:
        if self.form not in LAYOUTS:
            raise UserError(f"model.form {self.form!r} is unknown{nearest(self.form, LAYOUTS)}")
        if self.shortcut not in ("pad", "projection"):
            raise UserError(f"model.shortcut {self.shortcut!r} is unknown; known: pad, projection")
        depths = LAYOUTS[self.form]
        if self.depth not in depths:
            known = ", ".join(map(str, depths))
            raise UserError(f"model.depth {self.depth} is unknown for form {self.form!r}; known: {known}")
        return depths[self.depth]
