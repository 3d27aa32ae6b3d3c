"""Log-likelihoods of given continuations, to choose among labels without generation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.util.errors import UserError


def log_likelihoods(
    model: Any,
    variables: dict,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    room: int = 0,
) -> jax.Array:
    """log p(continuation | context) in nats, f32[R], of R pairs of lists of token ids.

    Summed over the continuation's tokens; divide by their number to compare continuations of different lengths. A context
    too long for `max_length` loses its beginning. Rows are padded to `room` tokens if all are shorter, so that other lengths do
    not recompile. Raises UserError if a context or continuation is empty, or a
    continuation does not fit.
    """
    rows, begins = [], []
    for i, (context, continuation) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(continuation):
            raise UserError(
                f"pair {i}: a context of {len(context)} tokens and a continuation of {len(continuation)}: want both"
            )
        # The last token is only ever a target.
        if (room := model.max_length + 1 - len(continuation)) < 1:
            size = len(continuation)
            raise UserError(f"pair {i}: a continuation of {size} tokens, and the model reads {model.max_length}")
        context = list(context)[-room:]
        rows.append([*context, *continuation])
        begins.append(len(context))
    ends = np.array([len(row) for row in rows], np.int32)
    width = max(ends.max(), room)
    tokens = np.stack([np.pad(np.asarray(row, np.int32), (0, width - len(row))) for row in rows])
    if tokens.min() < 0 or tokens.max() >= model.vocab_size:
        raise UserError(f"a token is outside the vocabulary, 0..{model.vocab_size - 1}")
    return _between(model, variables, tokens, np.array(begins, np.int32), ends)


@partial(jax.jit, static_argnames="model")
def _between(model, variables, tokens, begins, ends):
    """Sums of log p over the tokens begin..end-1 of each row, f32[R]."""
    log_p = jax.nn.log_softmax(model.apply(variables, tokens[:, :-1]))
    token_log_p = jnp.take_along_axis(log_p, tokens[:, 1:, None], 2)[..., 0]
    at = jnp.arange(1, tokens.shape[1])
    return jnp.where((at >= begins[:, None]) & (at < ends[:, None]), token_log_p, 0.0).sum(1)
