"""Denoising diffusion: how a picture turns into noise, and the steps back from noise to pictures.

Times are 0 to T: at 0 there is the picture, at T nearly nothing but noise. `signal` is alpha-bar of Ho et al. 2020 (DDPM,
2006.11239), f32[T + 1], of which `signal[0]` is 1: the noisy picture at time t is sqrt(signal[t]) times the picture plus
sqrt(1 - signal[t]) times standard normal noise (eq. 4). Pictures here have values in -1..1.

A network predicts one of three things, from each of which the others follow: the noise; the picture; or the velocity,
sqrt(signal) * noise - sqrt(1 - signal) * picture (Salimans & Ho 2022, 2202.00512, section 4 and appendix D).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from research.core.arrays import Array

PREDICTIONS = ("noise", "picture", "velocity")
Scalar: TypeAlias = Array | float


def linear(steps: int) -> np.ndarray:
    """`signal` f32[T + 1] for Ho et al.'s variances: from 1e-4 to 0.02 over T = 1,000 times; for other T they scale by 1,000 / T.

    >>> [round(signal, 6) for signal in linear(1_000)[[0, 1, 1_000]].tolist()]
    [1.0, 0.9999, 4e-05]
    """
    return _signal(np.linspace(0.1, 20, steps) / steps)


def cosine(steps: int, offset: float = 0.008) -> np.ndarray:
    """`signal` f32[T + 1] of Nichol & Dhariwal 2021 (2102.09672), eq. 17: the squared cosine, each variance at most 0.999.

    >>> [round(signal, 3) for signal in cosine(1_000)[[0, 500]].tolist()]
    [1.0, 0.494]
    """
    f = np.square(np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2))
    return _signal(1 - f[1:] / f[:-1])


def _signal(variances: np.ndarray) -> np.ndarray:
    return np.append(1, np.cumprod(1 - np.minimum(variances, 0.999))).astype(np.float32)


SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {"linear": linear, "cosine": cosine}


def diffuse(picture: Array, noise: Array, signal: Scalar) -> jax.Array:
    """A sample of q(x_t | x_0), from pictures and standard normal noise, f[B, ...] each; `signal` is f[B] or one for all."""
    signal = _rows(signal, picture)
    return jnp.sqrt(signal) * picture + jnp.sqrt(1 - signal) * noise


def target(picture: Array, noise: Array, signal: Scalar, of: str) -> Array:
    """What a network that predicts `of`, one of PREDICTIONS, should say of a noisy picture: f[B, ...], as are its parts."""
    signal = _rows(signal, picture)
    if of == "velocity":
        return jnp.sqrt(signal) * noise - jnp.sqrt(1 - signal) * picture
    return noise if of == "noise" else picture


def to_picture(prediction: Array, noisy: Array, signal: Scalar, of: str) -> Array:
    """The pictures f[B, ...] that predictions of `of` amount to: `target`'s inverse."""
    signal = _rows(signal, noisy)
    if of == "velocity":
        return jnp.sqrt(signal) * noisy - jnp.sqrt(1 - signal) * prediction
    return (noisy - jnp.sqrt(1 - signal) * prediction) / jnp.sqrt(signal) if of == "noise" else prediction


def guided(conditional: Array, unconditional: Array, guidance: Scalar) -> Array:
    """Classifier-free guidance (Ho & Salimans 2022, 2207.12598, eq. 6): (1 + w) conditional - w unconditional.

    Guidance w = 0 is the conditional model and -1 the unconditional one. What others call the scale is w + 1.
    """
    return (1 + guidance) * conditional - guidance * unconditional


def step(picture: Array, noisy: Array, noise: Array | float, signal: Scalar, earlier: Scalar, eta: Scalar) -> jax.Array:
    """From a time to an earlier one, given the picture that is predicted (Song et al. 2021, DDIM, 2010.02502, eqs. 12 and 16).

    `signal` and `earlier` are those of the two times. With eta = 0 no noise is added. With eta = 1 this is a sample of the
    posterior q(x_s | x_t, x_0): DDPM's step, with the smaller of its two variances (2006.11239, eqs. 6 and 7).
    """
    variance = eta**2 * (1 - earlier) / (1 - signal) * (1 - signal / earlier)
    predicted_noise = (noisy - jnp.sqrt(signal) * picture) / jnp.sqrt(1 - signal)
    mean = jnp.sqrt(earlier) * picture + jnp.sqrt(jnp.maximum(1 - earlier - variance, 0)) * predicted_noise
    return mean + jnp.sqrt(variance) * noise


class Known(NamedTuple):
    """What inpainting keeps of pictures: f[B, ...] in -1..1 where `mask`, bool of the same shape, is True."""

    picture: Array
    mask: Array
    repeats: int = 1  # of each step, from its end noised back to its start


def sample(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    noise: Array,
    signal: Array,
    *,
    of: str,
    steps: Array | int,
    eta: Scalar = 0.0,
    keys: jax.Array | None = None,
    bound: float | None = 1.0,
    known: Known | None = None,
) -> jax.Array:
    """Pictures from noise, f[B, ...], in `steps` steps between T + 1 evenly spaced times; `steps` and `eta` may be traced.

    predict   (noisy pictures, their time i32[]) -> the prediction of `of`
    noise     standard normal: the pictures at time T
    keys      [B], of the noise that steps add: a picture depends on its own noise and key alone. None: eta is 0
    bound     on the predicted picture's values, as in Ho et al.; None: there is none
    known     pixels to keep. They are noised to the time after each step, and with `repeats` above 1 the step is made so often
              from there (RePaint, Lugmayr et al. 2022, 2201.09865, algorithm 1, with jumps of one step). It needs keys
    """
    last, repeats = len(signal) - 1, known.repeats if known else 1
    signal = jnp.asarray(signal)

    def normal(number: Array) -> Array | float:
        if keys is None:
            return 0.0
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), noise.shape[1:]))(keys)

    def body(i: Array, x: Array) -> Array:
        time, earlier = (last * (steps - i // repeats - done) // steps for done in (0, 1))
        now, then = signal[time], signal[earlier]
        picture = to_picture(predict(x, time), x, now, of)
        picture = picture if bound is None else jnp.clip(picture, -bound, bound)
        x = step(picture, x, normal(3 * i), now, then, eta)
        if known is None:
            return x
        x = jnp.where(known.mask, diffuse(known.picture, normal(3 * i + 1), then), x)
        again = diffuse(x, normal(3 * i + 2), now / then)
        return jnp.where((i + 1) % repeats > 0, again, x)

    return jax.lax.fori_loop(0, steps * repeats, body, noise)


def _rows(signal: Scalar, like: Array) -> Array:
    """A number a row, with axes to broadcast against `like`."""
    signal = jnp.asarray(signal)
    return signal.reshape(signal.shape + (1,) * (like.ndim - 1) * signal.ndim)
