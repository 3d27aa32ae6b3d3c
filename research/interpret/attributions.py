"""How much of a model's score each token of a text is answerable for: gradient x input and integrated gradients.

A score is a function of nothing that applies a Linen model, `lambda: model.apply(variables, ...)[...]`, f[B], whose rows do
not touch each other. What it owes a token is measured at the output of the token embedding, the `nn.Embed` called "tokens",
by adding to it a shift that is zero where the model is as it is. The models themselves know nothing of it.

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
    """`tokens` f32[B, T], what each is answerable for; the score f32[B] of the text, and of the baseline where there is one.

    By completeness the tokens' sum is score - baseline; `gap` f32[B] is by how much it is not.
    """

    tokens: jax.Array
    score: jax.Array
    baseline: jax.Array | None = None
    gap: jax.Array | None = None


def tapped(run: Callable[[], Any], shift: jax.Array | None = None) -> tuple[Any, jax.Array]:
    """`run()` with `shift` added to what the token embedding gives -> its result, and what the embedding gave, f[B, T, ..., D].

    UserError where there is no such embedding, or where it is used twice.
    """
    found: list[jax.Array] = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        module = context.module
        if not isinstance(module, nn.Embed) or module.name != EMBEDDING or context.method_name != "__call__":
            return out
        found.append(out)
        return out if shift is None else out + shift.astype(out.dtype)

    with nn.intercept_methods(intercept):
        result = run()
    if len(found) != 1:
        raise UserError(f"the model has {len(found)} embeddings called {EMBEDDING!r}; one is what can be explained")
    return result, found[0]


def gradients(score: Score, shift: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """-> d score / d embedding f[B, T, ..., D], the embedding as it is without the shift, the score f[B] with it."""
    if shift is None:
        shape = jax.eval_shape(lambda: tapped(score)[1])
        shift = jnp.zeros(shape.shape, shape.dtype)

    def total(shift):
        scores, embedded = tapped(score, shift)
        return scores.sum(), (embedded, scores)

    grads, (embedded, scores) = jax.grad(total, has_aux=True)(shift)
    return grads, embedded, scores


def by_token(product: jax.Array) -> jax.Array:
    """f[B, T, ..., D] -> f32[B, T]: summed over all that a token (or the n-grams that end there) has."""
    return product.astype(jnp.float32).sum(tuple(range(2, product.ndim)))


def gradient_x_input(score: Score) -> Attribution:
    """The score's derivative along each token's embedding: exact where the score is linear in it."""
    grads, embedded, scores = jax.jit(lambda: gradients(score))()
    return Attribution(by_token(grads * embedded), scores)


def integrated_gradients(score: Score, steps: int = 64, baseline: jax.Array | float = 0.0) -> Attribution:
    """The gradients' mean along the straight line from a baseline of embeddings (zero: no word) to the text's, times its length.

    The mean is the midpoint rule's over `steps` places: the gap falls as 1 / steps^2 where the score is smooth.
    """
    if steps < 1:
        raise UserError(f"steps = {steps}: at least 1")
    at = jax.jit(lambda alpha: _on_the_way(score, alpha, baseline))
    total, embedded, _ = at(0.5 / steps)
    for i in range(1, steps):
        total = total + at((i + 0.5) / steps)[0]
    tokens = by_token(total / steps * (embedded - baseline))
    ends = jax.jit(lambda alpha: tapped(score, (alpha - 1) * (embedded - baseline))[0])
    first, last = ends(0.0), ends(1.0)
    return Attribution(tokens, last, first, tokens.sum(1) - (last - first))


def _on_the_way(score: Score, alpha: jax.Array, baseline: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`gradients` at the share `alpha` of the way from the baseline to the text."""
    _, embedded = tapped(score)
    return gradients(score, (alpha - 1) * (embedded - baseline))
