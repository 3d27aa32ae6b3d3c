"""Losses of preferences and rewards, by hand and beside torch."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.losses import preference as losses


def rows(*values):
    return tuple(jnp.array(value, jnp.float32) for value in values)


def test_log_probabilities_of_tokens_are_of_those_before_them():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 5))
    tokens, mask = jnp.array([[1, 2, 3, 4], [4, 0, 0, 1]]), jnp.array([[0.0, 1, 1, 0], [0, 0, 1, 1]])
    ours = np.asarray(losses.token_log_probs(logits, tokens, mask))
    for b in range(2):
        for t in range(4):
            p = np.exp(np.asarray(logits[b, t - 1], np.float64))
            expected = np.log(p[tokens[b, t]] / p.sum()) if mask[b, t] else 0
            assert ours[b, t] == pytest.approx(expected, abs=1e-6)


def test_bradley_terry_by_hand():
    assert losses.bradley_terry(*rows([0.0, 2.0], [0.0, -1.0])).tolist() == pytest.approx(
        [np.log(2), np.log1p(np.exp(-3))], rel=1e-6
    )


def test_dpo_by_hand():
    """beta 0.1, log-ratios 1 and -2: a margin of 0.3."""
    loss, margin = losses.dpo(*rows([-4.0], [-7.0], [-5.0], [-5.0]), beta=0.1)
    assert margin[0] == pytest.approx(0.3, rel=1e-6) and loss[0] == pytest.approx(np.log1p(np.exp(-0.3)), rel=1e-6)
    smooth, _ = losses.dpo(*rows([-4.0], [-7.0], [-5.0], [-5.0]), beta=0.1, smoothing=0.25)
    assert smooth[0] == pytest.approx(0.75 * np.log1p(np.exp(-0.3)) + 0.25 * np.log1p(np.exp(0.3)), rel=1e-6)


def test_a_policy_that_is_its_reference_has_a_loss_of_log_two():
    loss, margin = losses.dpo(*rows([-4.0], [-7.0], [-4.0], [-7.0]), beta=0.5)
    assert loss[0] == pytest.approx(np.log(2)) and margin[0] == 0


def test_advantages_by_hand():
    """1, 0, 0, 0: mean 0.25, sample standard deviation 0.5; and a group of equal rewards learns nothing."""
    advantages = losses.group_advantages(jnp.array([[1.0, 0, 0, 0], [1, 1, 1, 1]]), eps=0.0001)
    assert advantages[0].tolist() == pytest.approx([0.75 / 0.5001] + [-0.25 / 0.5001] * 3, rel=1e-6)
    assert advantages[1].tolist() == [0] * 4


def test_grpo_by_hand():
    """Two tokens that count: ratios 1.5, above 1 + clip, and 0.9; KL of 0 and of e^-0.5 + 0.5 - 1."""
    mask = jnp.array([[0.0, 1.0, 1.0]])
    new, old = jnp.array([[0.0, -1.0, -2.0]]), jnp.array([[0.0, -1.0 - np.log(1.5), -2.0 - np.log(0.9)]])
    reference = jnp.array([[0.0, -1.0, -2.5]])
    loss, kl, clipped = losses.grpo(new, old, reference, jnp.array([2.0]), mask, clip=0.2, beta=0.1)
    k3 = np.exp(-0.5) + 0.5 - 1
    assert loss[0] == pytest.approx((-1.2 * 2 - 0.9 * 2 + 0.1 * k3) / 2, rel=1e-6)
    assert kl[0] == pytest.approx(k3 / 2, rel=1e-5) and clipped[0] == 0.5
    worse, _, clipped = losses.grpo(new, old, reference, jnp.array([-2.0]), mask, clip=0.2, beta=0.0)
    assert worse[0] == pytest.approx((1.5 * 2 + 0.9 * 2) / 2, rel=1e-6), (
        "a ratio that rises is not excused where it hurts"
    )
    assert clipped[0] == 0


def test_grpos_gradient_on_its_own_samples_is_reinforce():
    """With a ratio of 1: -A d log p, whatever the clip."""
    new, mask = jnp.array([[-1.0, -2.0]]), jnp.ones((1, 2))

    def loss(new):
        return losses.grpo(new, jax.lax.stop_gradient(new), new, jnp.array([3.0]), mask, 0.2, 0.0)[0].sum()

    assert jax.grad(loss)(new).tolist() == [[-1.5, -1.5]]


def test_losses_are_trls():
    """Of the same logits and tokens: values that the methods of trl 1.16's own trainers returned."""
    file = Path(__file__).parents[1] / "fixtures" / "trl_losses.json"
    rows = {name: np.array(value) for name, value in json.loads(file.read_text()).items()}
    advantages = losses.group_advantages(rows["rewards"])
    np.testing.assert_allclose(advantages, rows["advantages"], rtol=1e-5)
    names = ("new", "old", "reference")
    mask = rows["mask"].astype(np.float32)
    of = {name: losses.token_log_probs(rows[name], rows["tokens"], mask) for name in names}
    loss, _, clipped = losses.grpo(*of.values(), advantages.reshape(-1), mask, clip=0.2, beta=0.3)
    assert float(loss.mean()) == pytest.approx(float(rows["grpo"]), rel=1e-5) and 0 < clipped.mean() < 1
    pairs = (half for name in ("new", "reference") for half in jnp.split(of[name].sum(-1), 2))
    assert float(losses.dpo(*pairs, beta=0.1)[0].mean()) == pytest.approx(float(rows["dpo"]), rel=1e-5)
    rewards = jnp.split(rows["rewards"].reshape(-1), 2)
    assert float(losses.bradley_terry(*rewards).mean()) == pytest.approx(float(rows["reward"]), rel=1e-6)
