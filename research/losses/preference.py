"""Losses that learn from preferences and rewards, as functions of log-probabilities.

Reward models by Bradley and Terry (1952), as Ouyang et al. 2022 (2203.02155, eq. 1) have them; DPO (Rafailov et al. 2023,
2305.18290, eq. 7); GRPO (Shao et al. 2024, 2402.03300, eq. 3 and 4).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int

from research.core.arrays import Array
from research.losses.classification import negative_log_likelihood
from research.losses.reinforcement import clipped_surrogate


def token_log_probs(
    logits: Float[Array, "B T V"], tokens: Int[Array, "B T"], mask: Float[Array, "B T"]
) -> Float32[Array, "B T"]:
    """log p(token t | those before it), 0 where the mask is; `logits` at t - 1 are of token t, so the first has none.

    >>> rows = token_log_probs(jnp.zeros((1, 3, 4)), jnp.array([[1, 2, 3]]), jnp.array([[0.0, 1.0, 1.0]]))
    >>> [round(float(x), 4) for x in rows[0]]  # of four tokens that are all as likely
    [0.0, -1.3863, -1.3863]
    """
    of_next = -negative_log_likelihood(logits[:, :-1], tokens[:, 1:])
    return jnp.pad(of_next, ((0, 0), (1, 0))) * mask.astype(jnp.float32)


def bradley_terry(chosen: Float[Array, " B"], rejected: Float[Array, " B"]) -> Float32[Array, " B"]:
    """-log sigmoid(chosen - rejected), of scalar rewards: the better one wins with the sigmoid's probability."""
    return -jax.nn.log_sigmoid((chosen - rejected).astype(jnp.float32))


def dpo(
    chosen: Float[Array, " B"],
    rejected: Float[Array, " B"],
    reference_chosen: Float[Array, " B"],
    reference_rejected: Float[Array, " B"],
    beta: float,
    smoothing: float = 0.0,
) -> tuple[Float32[Array, " B"], Float32[Array, " B"]]:
    """Log-probabilities of whole completions -> the loss of each pair, and its margin.

    The margin is the difference of the implicit rewards beta * (log p - log p_reference). `smoothing` is the share of pairs
    whose preference is thought to be wrong (conservative DPO, Mitchell 2023).

    >>> loss, margin = dpo(*(jnp.array([x]) for x in (-1.0, -3.0, -2.0, -2.0)), beta=0.5)
    >>> round(float(loss[0]), 4), float(margin[0])  # -log sigmoid(0.5 * 2)
    (0.3133, 1.0)
    """
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected)).astype(jnp.float32)
    loss = -(1 - smoothing) * jax.nn.log_sigmoid(margin) - smoothing * jax.nn.log_sigmoid(-margin)
    return loss, margin


def group_advantages(rewards: Float[Array, "B G"], eps: float = 1e-4) -> Float32[Array, "B G"]:
    """Rewards of G samples a prompt -> (reward - mean) / (sample standard deviation + eps), within each prompt's group."""
    rewards = rewards.astype(jnp.float32)
    centred = rewards - rewards.mean(1, keepdims=True)
    return centred / (rewards.std(1, ddof=1, keepdims=True) + eps)


def grpo(
    log_probs: Float[Array, "B T"],
    old: Float[Array, "B T"],
    reference: Float[Array, "B T"],
    advantages: Float[Array, " B"],
    mask: Float[Array, "B T"],
    clip: float,
    beta: float,
) -> tuple[Float32[Array, " B"], Float32[Array, " B"], Float32[Array, " B"]]:
    """Log-probabilities of sampled tokens -> the loss of each sample, its KL to the reference, the share of clipped tokens.

    old         those of the policy that drew the samples
    mask        1 at the tokens of a completion; all three results are means over these
    clip        ratios of probabilities beyond 1 - clip and 1 + clip have no gradient that would take them further
    beta        of the KL, estimated without bias by p_ref / p - log(p_ref / p) - 1 (Schulman 2020)
    """
    advantage = jnp.broadcast_to(advantages[:, None], log_probs.shape)
    policy = clipped_surrogate(log_probs, old, advantage, clip)
    difference = reference - log_probs
    kl = jnp.exp(difference) - difference - 1
    clipped = (policy > -jnp.exp(log_probs - old) * advantage).astype(jnp.float32)
    count = jnp.maximum(mask.sum(1), 1)
    loss, kl, clipped = ((x * mask).sum(1) / count for x in (policy + beta * kl, kl, clipped))
    return loss, kl, clipped
