"""Advantages, targets and losses of reinforcement learning, as arrays by transition.

`terminated` says that the environment ended the episode there: no reward follows. At a time limit (truncated) the episode is cut,
but its return is not, and the value of the last observation stands for the rest of it (Pardo et al. 2018, 1712.00378).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Integer

from research.core.arrays import Array


def generalized_advantage(
    reward: Float[Array, "T B"], value: Float[Array, "T B"], next_value: Float[Array, "T B"],
    terminated: Bool[Array, "T B"], done: Bool[Array, "T B"], discount: float, decay: float,
) -> Float32[Array, "T B"]:  # fmt: skip
    """A_t = delta_t + discount * decay * A_(t+1), delta_t = r_t + discount * V(next) - V(t) (Schulman et al. 2016, 1506.02438).

    `next_value` is of what the action led to, which after `done` is not the observation of row t + 1: the sum over t stops
    there, and where `terminated`, V(next) is 0.

    >>> rows = [jnp.array([[x], [y]]) for x, y in ((1.0, 1.0), (0.5, 0.5), (0.5, 8.0))]
    >>> ends = jnp.array([[False], [True]])
    >>> generalized_advantage(*rows, ends, ends, discount=1.0, decay=0.5)[:, 0].tolist()
    [1.25, 0.5]
    """
    reward, value, next_value = (x.astype(jnp.float32) for x in (reward, value, next_value))
    delta = reward + discount * jnp.where(terminated, 0.0, next_value) - value

    def back(advantage, row):
        delta, done = row
        advantage = delta + discount * decay * jnp.where(done, 0.0, advantage)
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, done), reverse=True)[1]


def log_probability(logits: Float[Array, "B N"], action: Integer[Array, " B"]) -> Float32[Array, " B"]:
    """Of the action taken."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), action[:, None], 1)[:, 0]


def entropy(logits: Float[Array, "B N"]) -> Float32[Array, " B"]:
    """Of the policy, in nats."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -(jnp.exp(log_p) * log_p).sum(-1)


def clipped_surrogate(
    log_prob: Float[Array, "*batch"], old: Float[Array, "*batch"], advantage: Float[Array, "*batch"], clip: float
) -> Float32[Array, "*batch"]:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) with r = p / p_old (Schulman et al. 2017, 1707.06347, eq. 7, negated)."""
    ratio = jnp.exp(log_prob - old)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def clipped_value(
    value: Float[Array, " B"], old: Float[Array, " B"], target: Float[Array, " B"], clip: float
) -> Float32[Array, " B"]:
    """Half the squared error, of the worse of `value` and `value` held within `clip` of the old one; 0 does not clip."""
    value = value.astype(jnp.float32)
    error = jnp.square(value - target)
    if clip:
        error = jnp.maximum(error, jnp.square(old + jnp.clip(value - old, -clip, clip) - target))
    return error / 2


def q_target(
    reward: Float[Array, " B"], terminated: Bool[Array, " B"], next_q: Float[Array, "B N"],
    online_q: Float[Array, "B N"] | None, discount: float,
) -> Float32[Array, " B"]:  # fmt: skip
    """r + discount * max_a Q(next, a) of the target network's `next_q` (Mnih et al. 2015), without gradient.

    With `online_q` the online network chooses the action, and `next_q` values it: double DQN (van Hasselt et al. 2016,
    1509.06461, eq. 4).
    """
    best = (next_q if online_q is None else online_q).argmax(-1)
    value = jnp.take_along_axis(next_q.astype(jnp.float32), best[:, None], 1)[:, 0]
    return jax.lax.stop_gradient(reward + discount * jnp.where(terminated, 0.0, value))


def temporal_difference(
    q: Float[Array, "B N"], action: Integer[Array, " B"], target: Float[Array, " B"], huber: float
) -> Float32[Array, " B"]:
    """Squared error of Q at the action taken; above 0, `huber` is where it becomes linear, as half of it.

    >>> q, action, target = jnp.array([[0.0, 3.0]]), jnp.array([1]), jnp.array([0.0])
    >>> [temporal_difference(q, action, target, huber).tolist() for huber in (0.0, 1.0)]
    [[9.0], [2.5]]
    """
    error = jnp.take_along_axis(q.astype(jnp.float32), action[:, None], 1)[:, 0] - target
    if not huber:
        return jnp.square(error)
    size = jnp.abs(error)
    return jnp.where(size <= huber, jnp.square(error) / 2, huber * (size - huber / 2))
