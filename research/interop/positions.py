"""Learned positions of patches, for a picture of another size."""

import jax
import jax.numpy as jnp
import numpy as np

Grid = tuple[int, int]  # rows and columns of patches


def resampled(table: np.ndarray, before: Grid, after: Grid) -> np.ndarray:
    """f32[T, D] -> f32[U, D]: the positions of `before` patches, row by row, as those of `after`.

    The grid is interpolated (Dosovitskiy et al. 2020, 2010.11929, section 3.2): bicubically, and with antialiasing where
    there are fewer afterwards, as timm does it. What stands before it, the class token's position, is left as it is.
    """
    first = len(table) - before[0] * before[1]
    grid = jnp.asarray(table[first:]).reshape(*before, -1)
    moved = jax.image.resize(grid, (*after, grid.shape[-1]), "cubic", antialias=True)
    return np.concatenate([table[:first], np.asarray(moved).reshape(after[0] * after[1], -1)])
