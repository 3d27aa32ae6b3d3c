"""How near a restored picture is to the original (PSNR, SSIM), and a fill of hidden pixels that learns nothing."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from research.core.arrays import Array
from research.util.errors import UserError

WINDOW, SIGMA = 11, 1.5  # of SSIM: pixels a side of the Gaussian window, and its standard deviation
C1, C2 = 0.01**2, 0.03**2  # for values in 0..1


def psnr(squared_error: float) -> float:
    """The mean squared error of values in 0..1 -> the peak signal-to-noise ratio, in dB; infinite if the error is 0.

    >>> psnr(0.01)
    20.0
    """
    return float(-10 * np.log10(squared_error)) if squared_error else float("inf")


def ssim(a: Float[Array, "B Y X C"], b: Float[Array, "B Y X C"]) -> Float32[Array, " B"]:
    """Structural similarity of pictures in 0..1, the mean over channels and over all places of the window that lie inside.

    Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity, eq. 13, with their Gaussian window
    of 11 x 11 pixels and standard deviation 1.5. Raises UserError for pictures smaller than the window.

    >>> x = jnp.full((1, 11, 11, 1), 0.2)
    >>> round(float(ssim(x, x + 0.4)[0]), 4)  # (2 * 0.2 * 0.6 + C1) / (0.2^2 + 0.6^2 + C1)
    0.6001
    """
    B, Y, X, C = a.shape
    if min(Y, X) < WINDOW:
        raise UserError(f"SSIM needs pictures of {WINDOW} x {WINDOW} pixels or more; these are {Y} x {X}")
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    rows, columns = _windows(Y), _windows(X)

    def blur(x: Array) -> Array:
        return jnp.einsum("iy,jx,byxc->bijc", rows, columns, x, precision="highest")

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    return (alike / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))).mean((1, 2, 3))


def _windows(size: int) -> Float32[np.ndarray, "_ {size}"]:
    """A row for each place of a Gaussian window along `size` pixels."""
    offsets = np.arange(size) - np.arange(size - WINDOW + 1)[:, None] - WINDOW // 2
    weights = np.where(np.abs(offsets) <= WINDOW // 2, np.exp(-0.5 * (offsets / SIGMA) ** 2), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def harmonic_fill(
    images: Float[np.ndarray, "N Y X C"], known: Bool[np.ndarray, "Y X"]
) -> Float64[np.ndarray, "N Y X C"]:
    """Laplace's equation in the pixels that are not known: each is the mean of its neighbours.

    >>> line = np.array([0.0, 9.0, 9.0, 3.0]).reshape(1, 1, 4, 1)
    >>> harmonic_fill(line, np.array([[True, False, False, True]])).ravel().round(6).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    N, Y, X, C = images.shape
    pixels = images.transpose(1, 2, 0, 3).reshape(Y * X, N * C).astype(np.float64)
    pixels[~known.ravel()] = _harmonic_weights(known.tobytes(), Y, X) @ pixels[known.ravel()]
    return pixels.reshape(Y, X, N, C).transpose(2, 0, 1, 3)


@functools.lru_cache(maxsize=4)
def _harmonic_weights(known: bytes, Y: int, X: int) -> Float64[np.ndarray, "hidden known"]:
    """Of each known pixel in each hidden one, where the mask bool[Y, X] has these bytes."""
    number, mask = np.arange(Y * X).reshape(Y, X), np.frombuffer(known, bool)
    pairs = [np.stack([number[1:], number[:-1]], -1), np.stack([number[:, 1:], number[:, :-1]], -1)]
    a, b = np.concatenate([each.reshape(-1, 2) for each in pairs]).T
    laplacian = np.zeros((Y * X, Y * X))
    for one, other in ((a, b), (b, a)):
        laplacian[one, other] -= 1
        np.add.at(laplacian, (one, one), 1)
    return np.linalg.solve(laplacian[~mask][:, ~mask], -laplacian[~mask][:, mask])
