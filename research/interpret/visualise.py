"""Feature visualisation: the picture for which a network's score is largest (Erhan et al. 2009, technical report 1341).

The picture is made from the coefficients of its Fourier transform, so that neighbouring pixels change together, and is shifted at
random at every step, so that the score does not hang on single pixels: Olah et al. 2017, Feature Visualization, distill.pub,
"Preconditioning" and "Transformation robustness".
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

Score = Callable[[jax.Array], jax.Array]  # f[B, Y, X, C] -> f[B], whose rows are independent


class Visualised(NamedTuple):
    """Pictures f32[B, Y, X, C] in 0..1, and the score f32[B] of the first and of the last ones."""

    image: jax.Array
    before: jax.Array
    after: jax.Array


def visualise(
    score: Score, shape: tuple[int, int, int, int], key: jax.Array, steps: int = 256, rate: float = 0.05,
    shift: int | None = None,
) -> Visualised:  # fmt: skip
    """Pictures [B, Y, X, C], each of which is to make its score as large as it can be, by `steps` of Adam from grey noise.

    `rate` is Adam's learning rate of the coefficients; `shift` the largest number of pixels of a random shift, 0 for none and
    None for a sixteenth of the shorter side.
    """
    B, Y, X, C = shape
    shift = min(Y, X) // 16 if shift is None else shift
    # As in natural pictures, the amplitude falls with the frequency; the lowest is that of one wave in the longer side.
    frequency = jnp.hypot(jnp.fft.fftfreq(Y)[:, None], jnp.fft.rfftfreq(X))
    scale = jnp.sqrt(Y * X) / jnp.maximum(frequency, 1 / max(Y, X)) / max(Y, X)

    def picture(coefficients: jax.Array) -> jax.Array:
        waves = jax.lax.complex(*coefficients) * scale[:, :, None]
        return jax.nn.sigmoid(jnp.fft.irfft2(waves, (Y, X), axes=(1, 2)))

    start_key, key = jax.random.split(key)
    coefficients = 0.01 * jax.random.normal(start_key, (2, B, *scale.shape, C))
    adam = optax.adam(rate)

    @jax.jit
    def step(coefficients, opt, key):
        moves = jax.random.randint(key, (2,), -shift, shift + 1)

        def negative(coefficients):
            return -score(jnp.roll(picture(coefficients), moves, (1, 2))).astype(jnp.float32).sum()

        updates, opt = adam.update(jax.grad(negative)(coefficients), opt)
        return optax.apply_updates(coefficients, updates), opt

    run = jax.jit(lambda c: (picture(c), score(picture(c)).astype(jnp.float32)))
    _, before = run(coefficients)
    opt = adam.init(coefficients)
    for i in range(steps):
        coefficients, opt = step(coefficients, opt, jax.random.fold_in(key, i))
    image, after = run(coefficients)
    return Visualised(image, before, after)
