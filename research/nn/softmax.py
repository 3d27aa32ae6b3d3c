"""Softmax over the last axis, with a gradient that XLA's CPU backend fuses better than the derived one."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.core import mesh
from research.core.arrays import Array


def softmax(x: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
    """`jax.nn.softmax(x)`. The same value; on a CPU the gradient is one fusion."""
    return _softmax(x) if mesh.platform() == "cpu" else jax.nn.softmax(x)


@jax.custom_vjp
def _softmax(x):
    return jax.nn.softmax(x)


def _forward(x):
    y = jax.nn.softmax(x)
    return y, y


def _backward(y, cotangent):
    product = y * cotangent
    return (product - y * jnp.sum(product, axis=-1, keepdims=True),)


_softmax.defvjp(_forward, _backward)
