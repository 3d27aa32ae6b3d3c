"""The prior over grids of codes: a Gated PixelCNN (van den Oord et al. 2016, 1606.05328).

A cell sees the rows above it by the vertical stack, and the cells left of it in its row by the horizontal one. A masked
convolution is here one whose kernel has the visible cells alone, with the padding on their side.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.util.errors import UserError


class GatedPixelCNN(nn.Module):
    """Codes i32[B, y, x] -> logits f[B, y, x, K] of each cell, given the cells before it row by row."""

    num_codes: int  # K
    width: int = 64
    num_layers: int = 4
    kernel: int = 3  # cells of a side; odd
    dropout: float = 0.0  # of the last layers' inputs

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        if self.kernel % 2 == 0:
            raise UserError(f"prior.kernel = {self.kernel}: an odd number, so that a cell has as many on either side")
        x = nn.Embed(self.num_codes, self.width, name="codes")(codes)
        vertical = jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]  # a cell has the one above
        horizontal = jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]  # and the one on its left
        for i in range(self.num_layers):
            vertical, horizontal = Layer(self.width, self.kernel, name=f"h_{i}")(vertical, horizontal)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = nn.relu(nn.Dense(self.width, name="hidden")(drop(nn.relu(horizontal))))
        return nn.Dense(self.num_codes, name="logits")(drop(x))


class Layer(nn.Module):
    """Both stacks' convolutions and gates (figure 2)."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, vertical: jax.Array, horizontal: jax.Array) -> tuple[jax.Array, jax.Array]:
        side, both = self.kernel // 2, 2 * self.width
        above = nn.Conv(both, (side + 1, self.kernel), padding=((side, 0), (side, side)), name="above")(vertical)
        left = nn.Conv(both, (1, side + 1), padding=((0, 0), (side, 0)), name="left")(horizontal)
        gated = _gate(left + nn.Dense(both, name="between")(above))
        return _gate(above), horizontal + nn.Dense(self.width, name="out")(gated)


def _gate(x: jax.Array) -> jax.Array:
    signal, gate = jnp.split(x, 2, axis=-1)
    return jnp.tanh(signal) * nn.sigmoid(gate)


def draw(model: GatedPixelCNN, variables: dict, key: jax.Array, count: int, shape: tuple[int, int]) -> jax.Array:
    """Samples i32[count, y, x] for a grid of `shape`, cell by cell: y x passes of the network."""
    rows, columns = shape

    def one(i: jax.Array, codes: jax.Array) -> jax.Array:
        row, column = i // columns, i % columns
        logits = model.apply(variables, codes)[:, row, column].astype(jnp.float32)
        return codes.at[:, row, column].set(jax.random.categorical(jax.random.fold_in(key, i), logits))

    return jax.lax.fori_loop(0, rows * columns, one, jnp.zeros((count, rows, columns), jnp.int32))
