"""What a network that is built for one size asks of its pictures."""

from jaxtyping import Float

from research.core.arrays import Array
from research.util.errors import UserError


def check(x: Float[Array, "B Y X C"], image_shape: tuple[int, int, int]) -> None:
    """Raises UserError unless pictures have the shape (Y, X, C) that the model was built for."""
    if x.shape[1:] != tuple(image_shape):
        raise UserError(f"pictures of {list(x.shape[1:])}; this model takes {list(image_shape)}")


def patches(image_shape: tuple[int, int, int], patch: int) -> None:
    """Raises UserError unless a picture is a whole number of patches."""
    rows, columns, _ = image_shape
    if patch < 1 or min(rows, columns) < patch or rows % patch or columns % patch:
        raise UserError(
            f"model.patch = {patch}: pictures of {rows} x {columns} pixels are no whole number of patches; "
            "change it, or pad the pictures by augment.pad"
        )
