"""Attributions of a model's score to the tokens of a text: gradient x input and integrated gradients.

A score is a function without arguments that applies a Linen model, `lambda: model.apply(variables, ...)[...]`, f[B], whose
rows are independent. Gradients are taken at the output of the token embedding, the `nn.Embed` called "tokens", with respect
to a shift that is added to it (zero for the model itself). The models need no changes.

Sources: gradient x input, Shrikumar et al. 2016 (1605.01713), section 3.2; integrated gradients, Sundararajan et al. 2017
(1703.01365), eq. 1 and 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.util.errors import UserError

EMBEDDING = "tokens"  # the name of the layer
Score = Callable[[], jax.Array]


class Attribution(NamedTuple):
    """The tokens' attributions f32[B, T]; the score f32[B] of the text and, with a baseline, of the baseline.

    By completeness the attributions sum to score - baseline; `gap` f32[B] is the difference.
    """

    tokens: jax.Array
    score: jax.Array
    baseline: jax.Array | None = None
    gap: jax.Array | None = None


def tapped(run: Callable[[], Any], shift: jax.Array | None = None) -> tuple[Any, jax.Array]:
    """Calls `run` with `shift` added to the token embeddings -> its result, and the embeddings f[B, T, ..., D] without the shift.

    Raises UserError unless the model applies exactly one such embedding, once.
    """
    outputs: list[jax.Array] = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        module = context.module
        if not isinstance(module, nn.Embed) or module.name != EMBEDDING or context.method_name != "__call__":
            return out
        outputs.append(out)
        return out if shift is None else out + shift.astype(out.dtype)

    with nn.intercept_methods(intercept):
        result = run()
    if len(outputs) != 1:
        raise UserError(f"the model has {len(outputs)} embeddings called {EMBEDDING!r}; one is what can be explained")
    return result, outputs[0]


def gradients(score: Score, shift: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """-> d score / d embedding f[B, T, ..., D], the embeddings without `shift`, and the score f[B] with it."""
    if shift is None:
        shape = jax.eval_shape(lambda: tapped(score)[1])
        shift = jnp.zeros(shape.shape, shape.dtype)

    def total(shift):
        scores, embedded = tapped(score, shift)
        return scores.sum(), (embedded, scores)

    grads, (embedded, scores) = jax.grad(total, has_aux=True)(shift)
    return grads, embedded, scores


def by_token(product: jax.Array) -> jax.Array:
    """f[B, T, ..., D] -> f32[B, T], summed over all axes after T: a token's features, or those of n-grams that end there.

    >>> by_token(jnp.ones((1, 2, 3))).tolist()
    [[3.0, 3.0]]
    """
    return product.astype(jnp.float32).sum(tuple(range(2, product.ndim)))


def gradient_x_input(score: Score) -> Attribution:
    """Gradient x input, summed for each token: exact if the score is linear in the embeddings."""
    grads, embedded, scores = jax.jit(lambda: gradients(score))()
    return Attribution(by_token(grads * embedded), scores)


def integrated_gradients(score: Score, steps: int = 64, baseline: jax.Array | float = 0.0) -> Attribution:
    """The mean gradient on the straight line from the baseline embeddings (zero: no word) to the text's, times their difference.

    The mean is approximated by the midpoint rule with `steps` points: the gap falls as 1 / steps^2 if the score is smooth.
    Raises UserError if `steps` is below 1.
    """
    if steps < 1:
        raise UserError(f"steps = {steps}: at least 1")
    gradients_at = jax.jit(lambda alpha: _interpolated(score, alpha, baseline))
    total, embedded, _ = gradients_at(0.5 / steps)
    for i in range(1, steps):
        total = total + gradients_at((i + 0.5) / steps)[0]
    tokens = by_token(total / steps * (embedded - baseline))
    score_at = jax.jit(lambda alpha: tapped(score, (alpha - 1) * (embedded - baseline))[0])
    first, last = score_at(0.0), score_at(1.0)
    return Attribution(tokens, last, first, tokens.sum(1) - (last - first))


def _interpolated(score: Score, alpha: jax.Array, baseline: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`gradients` at baseline + alpha (embeddings - baseline)."""
    _, embedded = tapped(score)
    return gradients(score, (alpha - 1) * (embedded - baseline))
