"""An anchor-free grid: a residual backbone, a feature pyramid, and a head for classes beside a head for sides at each level."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.models.vision.resnet import Block, Conv, Norm

SHARDING = {"fsdp": ((r"kernel$", "fsdp"),)}
PRIOR = 0.01  # of a point's class before training: Lin et al. 2017 (1708.02002), section 4.1


class Unit(nn.Module):
    """A 3 x 3 convolution, batch normalisation and ReLU."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.channels, (3, 3), strides=self.stride, padding=1, name="conv")(x)
        return nn.relu(Norm(use_running_average=not train, name="norm")(x))


class Grid(nn.Module):
    """Pictures f[B, Y, X, C] -> logits of the classes f[B, P, N] and of the sides' distances f[B, P, 4, R], R = bins.

    The P points are those of `points`. Stride 2 is the stem's, and each stage doubles it; the last `levels` stages have points.
    The neck is Lin et al. 2017's (1612.03144): a level is added to the one above it at twice the size. The heads are decoupled
    as YOLOX's (Ge et al. 2021, 2107.08430, section 2.1), and distances are distributions (Li et al. 2020, 2006.04388).
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128, 128)  # of the stem and each stage: strides 2, 4, 8, 16 and 32
    blocks: int = 1  # of two convolutions, in each stage
    levels: int = 3  # with points
    neck: int = 64  # channels of the pyramid and the heads
    head_layers: int = 1
    bins: int = 16  # distances 0..bins - 1, in strides

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        classes, sides = [], []
        for i, y in enumerate(self._pyramid(x, train)):
            a = b = y
            for j in range(self.head_layers):
                a = Unit(self.neck, name=f"classes{i}_{j}")(a, train)
                b = Unit(self.neck, name=f"sides{i}_{j}")(b, train)
            prior = nn.initializers.constant(float(np.log(PRIOR / (1 - PRIOR))))
            a = nn.Dense(self.num_classes, bias_init=prior, name=f"classes{i}")(a)
            b = nn.Dense(4 * self.bins, name=f"sides{i}")(b)
            B, Y, X, _ = y.shape
            classes.append(a.reshape(B, Y * X, self.num_classes))
            sides.append(b.reshape(B, Y * X, 4, self.bins))
        return jnp.concatenate(classes, 1), jnp.concatenate(sides, 1)

    def _pyramid(self, x: jax.Array, train: bool) -> list[jax.Array]:
        x = Unit(self.widths[0], 2, name="stem")(x, train)
        stages = []
        for i, width in enumerate(self.widths[1:]):
            for j in range(self.blocks):
                x = Block(width, 2 if j == 0 else 1, False, "projection", False, name=f"stage{i}_block{j}")(x, train)
            stages.append(x)
        outputs, above = [], None
        for i, y in reversed(list(enumerate(stages[-self.levels :]))):
            y = nn.Dense(self.neck, name=f"lateral{i}")(y)
            if above is not None:
                y += jnp.repeat(jnp.repeat(above, 2, 1), 2, 2)
            above = y
            outputs.append(Unit(self.neck, name=f"neck{i}")(y, train))
        return outputs[::-1]


def strides(model: Grid) -> list[int]:
    """Of the levels with points, the finest first."""
    return [2 ** (len(model.widths) - model.levels + 1 + i) for i in range(model.levels)]


def points(model: Grid, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The centres (x, y) of the cells of each level, f32[P, 2], and their strides, f32[P], for pictures of `shape` (Y, X)."""
    centres, sizes = [], []
    for stride in strides(model):
        y, x = np.mgrid[: shape[0] // stride, : shape[1] // stride]
        centres.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(np.full(x.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)
