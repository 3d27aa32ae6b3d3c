"""Advantages and losses of reinforcement learning against loops, arithmetic by hand and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.losses import reinforcement as losses


def test_advantages_are_those_of_a_slow_sum():
    """Each is the sum of discounted deltas to the end of its episode, delta by delta."""
    rng = np.random.default_rng(0)
    T, B, discount, decay = 9, 3, 0.9, 0.8
    reward, value, after = rng.normal(size=(3, T, B))
    done = rng.random((T, B)) < 0.3
    terminated = done & (rng.random((T, B)) < 0.5)
    expected = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, b] else after[k, b]
                delta = reward[k, b] + discount * bootstrap - value[k, b]
                expected[t, b] += (discount * decay) ** (k - t) * delta
                if done[k, b]:
                    break
    ours = losses.generalized_advantage(
        *map(jnp.asarray, (reward, value, after)), jnp.asarray(terminated), jnp.asarray(done), discount, decay
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_time_limit_is_no_end():
    """Reward 1, V 10 everywhere: a termination is worth 1, a truncation 1 + 0.5 * 10; neither sees what follows."""
    one, ten = jnp.ones((2, 2)), jnp.full((2, 2), 10.0)
    done, terminated = jnp.array([[True, True], [False, False]]), jnp.array([[True, False], [False, False]])
    advantage = losses.generalized_advantage(one, ten, ten, terminated, done, 0.5, 1.0)
    assert advantage.tolist() == [[-9.0, -4.0], [-4.0, -4.0]]


def test_the_surrogate_by_hand():
    """Ratios 1.5 and 0.5 of clip 0.2: only a move that the advantage asked for is clipped."""
    ratio, advantage = jnp.array([1.5, 1.5, 0.5, 0.5]), jnp.array([2.0, -2.0, 2.0, -2.0])
    loss = losses.clipped_surrogate(jnp.log(ratio), jnp.zeros(4), advantage, 0.2)
    np.testing.assert_allclose(loss, [-2.4, 3.0, -1.0, 1.6], rtol=1e-6)
    slope = jax.grad(lambda x: losses.clipped_surrogate(x, jnp.zeros(4), advantage, 0.2).sum())(jnp.log(ratio))
    np.testing.assert_allclose(slope, [0.0, 3.0, -1.0, 0.0], rtol=1e-6)


def test_the_value_loss_by_hand():
    value, old, target = jnp.array([3.0, 3.0]), jnp.array([1.0, 1.0]), jnp.array([2.0, 3.0])
    np.testing.assert_allclose(losses.clipped_value(value, old, target, 0.0), [0.5, 0.0])
    # Held within 0.5 of the old value it is 1.5: the worse of the two errors counts.
    np.testing.assert_allclose(losses.clipped_value(value, old, target, 0.5), [0.5, 1.125])


def test_targets_by_hand():
    reward, terminated = jnp.array([1.0, 1.0]), jnp.array([False, True])
    following, online = jnp.array([[1.0, 5.0], [1.0, 5.0]]), jnp.array([[2.0, 0.0], [2.0, 0.0]])
    assert losses.q_target(reward, terminated, following, None, 0.5).tolist() == [3.5, 1.0]
    assert losses.q_target(reward, terminated, following, online, 0.5).tolist() == [1.5, 1.0]  # double


@pytest.mark.parity
def test_losses_are_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, q = rng.normal(size=(2, 5, 3)).astype(np.float32)
    action = rng.integers(0, 3, 5)
    policy = torch.distributions.Categorical(logits=torch.tensor(logits))
    np.testing.assert_allclose(
        losses.log_probability(jnp.asarray(logits), jnp.asarray(action)),
        policy.log_prob(torch.tensor(action)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(losses.entropy(jnp.asarray(logits)), policy.entropy(), rtol=1e-5)
    target = rng.normal(size=5).astype(np.float32) * 3
    taken = torch.tensor(q)[torch.arange(5), torch.tensor(action)]
    theirs = torch.nn.HuberLoss(reduction="none", delta=0.7)(taken, torch.tensor(target))
    ours = losses.temporal_difference(jnp.asarray(q), jnp.asarray(action), jnp.asarray(target), 0.7)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
