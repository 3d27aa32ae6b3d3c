"""Token cross-entropy that never holds all logits [B, T, V]: they are computed, reduced and freed chunk by chunk.

The sums over the vocabulary need one chunk of tokens only, and so does the gradient, which is linear in the logits' gradient
softmax - target. Under differentiation it is therefore computed with the chunk's logits in the forward pass, as in Liger
Kernel (Hsu et al. 2024, 2410.10989, section 3.2): three matrix products, as many as without chunks; nothing is recomputed.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Float, Int, Shaped

from research.core.arrays import Array
from research.core.mesh import data_parts, shard_activations
from research.core.metrics import MetricSums, Terms, broadcast_weights
from research.nn.logits import DeferredLogits

CHUNK_BYTES = 2**29  # of one device's f32 logits: more than this are computed in chunks of at most this size


def cross_entropy(
    logits: DeferredLogits,
    targets: Int[Array, "B T"],
    mask: Float[Array, "B T"] | Float[Array, " B"] | None = None,
    smoothing: float = 0.0,
    chunk_bytes: int | None = None,
) -> tuple[Terms, MetricSums]:
    """`research.losses.language.cross_entropy` of deferred logits.

    Equal to the plain form's up to summation order: 1e-6 of the value and of the gradients' largest element in f32. In bf16
    the logits' gradient is rounded to bf16 before it enters its two products. The gradient of the matrix is summed in f32.
    The mask and the metrics have no gradient. A chunk of logits takes at most `chunk_bytes` on each device (None:
    CHUNK_BYTES); each device keeps its rows.
    """
    B, T, D = logits.hidden.shape
    weights = jnp.ones((B, T), jnp.float32) if mask is None else broadcast_weights(mask.astype(jnp.float32), (B, T))
    parts, tokens = data_parts(B), B * T // data_parts(B)
    # A power of two divides the usual batch; if not, the last chunk is padded with tokens of weight 0.
    chunks = 2 ** math.ceil(math.log2(max(1, logits.device_bytes / (chunk_bytes or CHUNK_BYTES))))
    size = -(-tokens // chunks)

    def split(x: Shaped[Array, "B T *rest"]) -> Shaped[Array, "chunks parts size *rest"]:
        """A part is the rows of one device, a chunk `size` tokens of each part."""
        x = x.reshape(parts, tokens, *x.shape[2:])
        x = jnp.pad(x, ((0, 0), (0, chunks * size - tokens), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(x.reshape(parts, chunks, size, *x.shape[2:]), 1, 0)

    inputs = tuple(split(x) for x in (logits.hidden, targets, jax.lax.stop_gradient(weights)))
    matrix = logits.matrix if parts == 1 else _replicated(logits.matrix, logits.axis)
    objective, loss, correct = _sums(smoothing, logits.axis, *inputs, matrix, logits.bias)
    weight = weights.sum()
    metrics = {"loss": (loss, weight), "accuracy": (correct, weight)}
    return {"loss": (objective, weight, 1.0)}, jax.lax.stop_gradient(metrics)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sums(smoothing, axis, hidden, targets, weights, matrix, bias):
    """Sums over tokens of the smoothed loss, the loss and the accuracy, f32[] each; only the first has a gradient.

    hidden f[chunks, parts, size, D], targets and weights [chunks, parts, size], matrix f[V, D] (axis 1) or f[D, V] (axis 0).
    """

    spread = _spread(hidden.shape[1])

    def add(sums, chunk):
        return spread(sums + _chunk(smoothing, axis, *chunk, matrix, bias)[0]), None

    sums, _ = jax.lax.scan(add, spread(jnp.zeros((hidden.shape[1], 3))), (hidden, targets, weights))
    return tuple(sums.sum(0))


def _chunk(smoothing, axis, x, targets, weights, matrix, bias):
    """x f[parts, size, D] -> the three sums f32[parts, 3]; logits f32[parts, size, V]; their log-sum-exp."""
    logits = jnp.einsum(f"psd,{_subscripts(axis)}->psv", _spread(len(x))(x), matrix, preferred_element_type=jnp.float32)
    logits = logits if bias is None else logits + bias
    best = logits.argmax(-1)
    total = _logsumexp(logits, best)
    loss = total - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    objective = (1 - smoothing) * loss + smoothing * (total - logits.mean(-1)) if smoothing else loss
    sums = jnp.stack([jnp.sum(weights * v, -1) for v in (objective, loss, best == targets)], -1)
    return sums, logits, total


def _logsumexp(logits: Float[Array, "*batch V"], best: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`jax.nn.logsumexp(logits, -1)`, with the largest logit looked up: a pass over the vocabulary less."""
    top = jnp.take_along_axis(logits, best[..., None], -1)
    centre = jnp.where(jnp.isfinite(top), top, 0.0)
    return jnp.log(jnp.sum(jnp.exp(logits - centre), -1)) + centre[..., 0]


def _forward(smoothing, axis, hidden, targets, weights, matrix, bias):
    """`_sums`, and the gradients of the first."""
    parts, V = hidden.shape[1], matrix.shape[1 - axis]
    spread = _spread(parts)

    def add(carry, chunk):
        x, labels, weight = chunk
        sums, logits, total = _chunk(smoothing, axis, *chunk, matrix, bias)
        target = jax.nn.one_hot(labels, V) * (1 - smoothing) + smoothing / V
        slope = (jnp.exp(logits - total[..., None]) - target) * weight[..., None]
        factor = slope.astype(x.dtype)
        of_hidden = jnp.einsum(f"psv,{_subscripts(axis)}->psd", factor, matrix)
        order = f"p{_subscripts(axis)}"
        of_matrix = jnp.einsum(f"psv,psd->{order}", factor, x, preferred_element_type=jnp.float32)
        of_bias = None if bias is None else spread(carry[2] + slope.sum(1))
        return (spread(carry[0] + sums), spread(carry[1] + of_matrix), of_bias), of_hidden

    start = tuple(spread(jnp.zeros((parts, *shape))) for shape in ((3,), matrix.shape, (V,)))
    start = start if bias is not None else (*start[:2], None)
    (sums, of_matrix, of_bias), of_hidden = jax.lax.scan(add, start, (hidden, targets, weights))
    of_bias = None if bias is None else of_bias.sum(0).astype(bias.dtype)
    return tuple(sums.sum(0)), (of_hidden, of_matrix.sum(0).astype(matrix.dtype), of_bias)


def _backward(smoothing, axis, gradients, slopes):
    of_hidden, of_matrix, of_bias = jax.tree.map(lambda g: (g * slopes[0]).astype(g.dtype), gradients)
    return of_hidden, None, None, of_matrix, of_bias


def _spread(parts: int) -> Callable[[Array], Array]:
    """Keeps each part of [parts, ...] on its device: sums over all devices are taken once, after the loop."""
    return partial(shard_activations, other_axes=PartitionSpec.UNCONSTRAINED) if parts > 1 else lambda x: x


def _replicated(matrix: Float[Array, "rows columns"], axis: int) -> Float[Array, "rows columns"]:
    """The matrix with its D axis replicated: FSDP's all-gather then happens once, before the loop."""
    free: list = [PartitionSpec.UNCONSTRAINED] * 2
    free[axis] = None
    return jax.lax.with_sharding_constraint(matrix, PartitionSpec(*free))


def _subscripts(axis: int) -> str:
    return "vd" if axis else "dv"


_sums.defvjp(_forward, _backward)
