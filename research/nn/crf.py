"""A linear-chain conditional random field over the labels of a row (Lafferty et al. 2001).

A path y of labels at positions 1..T has the score

    start[y_1] + sum_t logits[t, y_t] + sum_{t > 1} transitions[y_{t-1}, y_t] + end[y_T]

and the probability exp(score) / Z, where Z sums exp(score) over all N^T paths. Positions that are not `inside` are no part of
the chain, wherever in the row they are: padding, and the later pieces of a word. A row with no position inside has the empty
path, of score 0 and probability 1. All is computed in f32; T may be symbolic.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Int, Int32

from research.core.arrays import Array


class Chain(NamedTuple):
    """The scores that do not depend on the input. `transitions` goes from the row's label to the column's."""

    start: Float[Array, " N"]
    transitions: Float[Array, "N N"]
    end: Float[Array, " N"]


class CRF(nn.Module):
    """The parameters of a `Chain`, first 0, so that labels are independent."""

    num_classes: int

    @nn.compact
    def __call__(self) -> Chain:
        N = self.num_classes
        shapes = {"start": (N,), "transitions": (N, N), "end": (N,)}
        return Chain(*(self.param(name, nn.initializers.zeros, shape) for name, shape in shapes.items()))


def negative_log_likelihood(
    logits: Float[Array, "B T N"], labels: Int[Array, "B T"], inside: Bool[Array, "B T"], chain: Chain
) -> Float32[Array, " B"]:
    """-log of the probability of each row's labels, in nats. Labels outside count for nothing, and are in 0..N-1 too."""
    return log_partition(logits, inside, chain) - path_score(logits, labels, inside, chain)


def path_score(
    logits: Float[Array, "B T N"], labels: Int[Array, "B T"], inside: Bool[Array, "B T"], chain: Chain
) -> Float32[Array, " B"]:
    """The score of each row's labels."""
    chain = _in_f32(chain)
    before, last = previous_inside(inside)
    own = jnp.take_along_axis(logits.astype(jnp.float32), labels[..., None], 2)[..., 0]
    steps = chain.transitions[jnp.take_along_axis(labels, jnp.maximum(before, 0), 1), labels]
    steps = jnp.where(before < 0, chain.start[labels], steps)
    end = chain.end[jnp.take_along_axis(labels, jnp.maximum(last, 0)[:, None], 1)[:, 0]]
    return jnp.where(inside, own + steps, 0).sum(1) + jnp.where(last < 0, 0, end)


def log_partition(logits: Float[Array, "B T N"], inside: Bool[Array, "B T"], chain: Chain) -> Float32[Array, " B"]:
    """log Z of each row, by the forward algorithm."""
    chain = _in_f32(chain)

    def step(carry, inputs):
        scores, begun = carry  # log of the sum over the paths that end in each label
        own, here = inputs
        longer = jax.nn.logsumexp(scores[:, :, None] + chain.transitions, axis=1)
        longer = jnp.where(begun[:, None], longer, chain.start) + own
        return (jnp.where(here[:, None], longer, scores), begun | here), None

    (scores, begun), _ = jax.lax.scan(step, _empty(logits), _over_time(logits, inside))
    return jnp.where(begun, jax.nn.logsumexp(scores + chain.end, -1), 0)


def marginals(logits: Float[Array, "B T N"], inside: Bool[Array, "B T"], chain: Chain) -> Float32[Array, "B T N"]:
    """The probability of each label at each position inside, over all paths; 0 outside.

    They are the gradient of log Z in the logits.
    """
    return jax.grad(lambda logits: log_partition(logits, inside, chain).sum())(logits.astype(jnp.float32))


def viterbi(
    logits: Float[Array, "B T N"], inside: Bool[Array, "B T"], chain: Chain
) -> tuple[Int32[Array, "B T"], Float32[Array, " B"]]:
    """The labels of each row's best path, 0 outside, and its score (Viterbi 1967). Of equal labels the first is taken."""
    chain = _in_f32(chain)
    same = jnp.arange(logits.shape[2])

    def ahead(carry, inputs):
        scores, begun = carry  # of the best path that ends in each label
        own, here = inputs
        sums = scores[:, :, None] + chain.transitions
        longer = jnp.where(begun[:, None], sums.max(1), chain.start) + own
        best = jnp.where((begun & here)[:, None], sums.argmax(1), same)  # the label before, for each label
        return (jnp.where(here[:, None], longer, scores), begun | here), best

    def back(label, best):
        return jnp.take_along_axis(best, label[:, None], 1)[:, 0], label

    (scores, begun), best = jax.lax.scan(ahead, _empty(logits), _over_time(logits, inside))
    scores = scores + chain.end
    _, labels = jax.lax.scan(back, scores.argmax(-1), best, reverse=True)
    return jnp.where(inside, labels.swapaxes(0, 1), 0).astype(jnp.int32), jnp.where(begun, scores.max(-1), 0)


def previous_inside(inside: Bool[Array, "B T"]) -> tuple[Int32[Array, "B T"], Int32[Array, " B"]]:
    """-> for each position the last one before it that is inside, and the row's last; -1 where there is none.

    >>> before, last = previous_inside(jnp.array([[False, True, False, True]]))
    >>> before.tolist(), last.tolist()
    ([[-1, -1, 1, 1]], [3])
    """
    positions = jnp.where(inside, jnp.arange(inside.shape[1], dtype=jnp.int32), -1)
    up_to = jax.lax.cummax(positions, axis=1)
    return jnp.pad(up_to[:, :-1], ((0, 0), (1, 0)), constant_values=-1), up_to[:, -1]


def _empty(logits: Array) -> tuple[Array, Array]:
    """The scores of rows of which nothing is read yet, and that nothing is."""
    B, _, N = logits.shape
    return jnp.zeros((B, N)), jnp.zeros(B, bool)


def _over_time(logits: Array, inside: Array) -> tuple[Array, Array]:
    return logits.astype(jnp.float32).swapaxes(0, 1), inside.swapaxes(0, 1)


def _in_f32(chain: Chain) -> Chain:
    return Chain(*(scores.astype(jnp.float32) for scores in chain))
