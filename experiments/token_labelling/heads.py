"""What the scores of labels mean: a softmax for each word, or a linear-chain CRF over the words of a row.

Scores are what the module returns: logits f32[B, T, N], and of a CRF the `Chain` beside them. Words stand where `mask` f32[B, T]
is 1: a chain passes over the other tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from research.core.metrics import MetricSums, Terms
from research.losses.language import cross_entropy
from research.nn import crf


class Head(NamedTuple):
    loss: Callable[[Any, jax.Array, jax.Array], tuple[Terms, MetricSums]]  # (scores, labels, mask): nats a word
    best: Callable[[Any, jax.Array], jax.Array]  # (scores, mask) -> labels i32[B, T]
    probabilities: Callable[[Any, jax.Array], jax.Array]  # (scores, mask) -> f32[B, T, N]


def _chain_loss(scores: Any, labels: jax.Array, mask: jax.Array) -> tuple[Terms, MetricSums]:
    """The negative log-likelihood of whole rows, by the number of their words."""
    logits, chain = scores
    pair = crf.negative_log_likelihood(logits, labels, mask > 0, chain).sum(), mask.sum()
    return {"loss": (*pair, 1.0)}, {"loss": pair}


SOFTMAX = Head(
    loss=cross_entropy,
    best=lambda logits, mask: logits.argmax(-1),
    probabilities=lambda logits, mask: jax.nn.softmax(logits),
)
# The best path, and the probability of each label over all paths.
CRF = Head(
    loss=_chain_loss,
    best=lambda scores, mask: crf.viterbi(scores[0], mask > 0, scores[1])[0],
    probabilities=lambda scores, mask: crf.marginals(scores[0], mask > 0, scores[1]),
)
