"""Preferences: the methods on tiny models, the reference, and rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments.preference import policy
from experiments.preference import train as preference
from research.core import config, mesh, state
from research.generation.rollout import Rollout
from research.util.errors import UserError
from tests.stopped import train_until


def build(*overrides):
    return preference.build(config.load("preference/tiny", list(overrides)))


def steps(e, count):
    """State before and after, and each step's metrics."""
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        now, rows = state.create(e.init_fn, e.tx, 0, one), []
        before = jax.device_get((now.params, now.model_state))
        for batch in e.train.on_device(one, 0, count):
            now, metrics = e.train_step(now, batch)
            rows.append({k: float(np.divide(*v)) for k, v in metrics.items() if k != "bad"})
    return before, now, rows


def test_a_fresh_policy_is_its_reference():
    """Before the first update DPO's loss is log 2 and its margin 0; the reference never changes."""
    (params, model_state), after, rows = steps(build(), 4)
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-6) and rows[0]["margin"] == 0
    jax.tree.map(np.testing.assert_array_equal, params, model_state["reference"])
    jax.tree.map(
        np.testing.assert_array_equal, model_state["reference"], jax.device_get(after.model_state["reference"])
    )
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_grpo_learns_what_it_is_rewarded_for():
    """The wrong reward, length: completions grow to the most tokens there are."""
    e = build("method=grpo", "grpo.reward=length", "grpo.beta=0.0", "optim.peak_lr=0.01", "num_steps=60")
    _, _, rows = steps(e, 60)
    assert rows[0]["reward"] < 0.97 < np.mean([row["reward"] for row in rows[-5:]])
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0.05


def test_several_updates_clip():
    e = build(
        "method=grpo", "grpo.reward=length", "grpo.updates=4", "optim.peak_lr=0.03", "optim.warmup=0", "grpo.clip=0.05"
    )
    _, _, rows = steps(e, 3)
    assert rows[-1]["clipped"] > 0


def test_microbatches_of_grpo_are_the_batch():
    whole, parts = (steps(build("method=grpo", f"optim.accumulate={n}", "grpo.reward=length"), 3) for n in (1, 4))
    for a, b in zip(whole[2], parts[2], strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1e-5)


def test_a_reward_model_learns_to_tell_right_from_wrong():
    """Chance is a half; 480 pairs have a standard deviation of 0.023."""
    e = build(
        "method=reward", "model.width=64", "data.batch_size=48", "num_steps=300", "best.metric=valid/pair_accuracy"
    )
    _, _, rows = steps(e, 300)
    assert np.mean([row["pair_accuracy"] for row in rows[-10:]]) > 0.65 and rows[0]["pair_accuracy"] < 0.65


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_adapters_alone_train(method):
    """The frozen base and the reference, which is the base, stay as they are."""
    e = build(f"method={method}", "grpo.reward=length", "lora.rank=2", "pretrained.weights=RUN", "optim.warmup=0")
    (params, model_state), after, _ = steps(e, 3)
    trained = flatten_dict(params, sep="/")
    assert {name.rpartition("/")[2] for name in trained} == {"lora_a", "lora_b"}
    for name, now in flatten_dict(after.params, sep="/").items():
        assert not np.array_equal(trained[name], now), name
    kept = jax.device_get(after.model_state)
    jax.tree.map(np.testing.assert_array_equal, model_state, kept)
    jax.tree.map(np.testing.assert_array_equal, kept["frozen"]["params"], kept["reference"])


def test_adapters_sample_from_the_merged_policy(monkeypatch):
    """GRPO draws from the base plus the adapters of now."""
    e = build("method=grpo", "lora.rank=2", "pretrained.weights=RUN")
    fresh = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    moved = fresh.replace(params=jax.tree.map(lambda x: x + 1.0, fresh.params))
    drawn_from = []
    monkeypatch.setattr(policy, "experience", lambda model, params, *rest: drawn_from.append(params) or 1 / 0)
    with pytest.raises(ZeroDivisionError):  # before any update
        e.train_step.fn(moved, {})
    jax.tree.map(np.testing.assert_array_equal, drawn_from[0], moved.variables["params"])


def test_rewards_by_hand():
    tokens = jnp.array([[3, 4, 0], [3, 0, 0], [3, 4, 5]])
    mask = jnp.array([[1.0, 1, 1], [1, 1, 0], [1, 1, 1]])
    drawn = Rollout(tokens, mask, mask)
    assert policy.exact(drawn, {"answer": jnp.array([[3, 4, 0]] * 3)}).tolist() == [1, 0, 0]
    assert policy.length(drawn, {}).tolist() == pytest.approx([1, 2 / 3, 1])


def test_experience_puts_each_completion_after_its_prompt():
    e = build("method=grpo")
    settings, data = policy.check(e.cfg), e.data
    batch = {k: jnp.asarray(v) for k, v in data.train.batch(0).items()}
    params = e.model.init(jax.random.key(1), jnp.zeros((1, 1), jnp.int32))["params"]
    samples = policy.experience(e.model, params, batch, jax.random.key(2), settings, data.end)
    B, G = 16, settings.group
    assert samples["tokens"].shape[0] == B * G and samples["reward"].shape == (B * G,)
    for row in (0, G + 3, B * G - 1):
        n = int(batch["prompt_length"][row // G])
        assert samples["tokens"][row, :n].tolist() == batch["prompt"][row // G, :n].tolist()
        assert samples["mask"][row, :n].sum() == 0 < samples["mask"][row, n]
    advantage = np.asarray(samples["advantage"]).reshape(B, G)
    np.testing.assert_allclose(advantage.sum(1), 0, atol=1e-4)


@pytest.mark.contract  # whose own tests are of preference/tiny, which is DPO's
@pytest.mark.parametrize("method", ["grpo", "reward"])
def test_a_resumed_run_is_the_undisturbed_one(method, tmp_path, capsys):
    """Parameters, moments and reference, to the bit."""
    e = build(f"method={method}", "best.metric=None", "num_steps=6", "eval_every=0")
    whole = preference.train(e, tmp_path / "whole")
    train_until(e, tmp_path / "parts", 3)
    resumed = preference.train(e, tmp_path / "parts")
    assert "resumed at step 3 of 6" in capsys.readouterr().out
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        a, b = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["method=ppo"], "method = 'ppo'"),
        (["dpo.beta=0.0"], "dpo.beta = 0.0: above 0"),
        (["dpo.smoothing=0.5"], "dpo.smoothing = 0.5"),
        (["model.dropout=0.1"], "model.dropout = 0.1: dpo compares with a reference, without dropout"),
        (["method=grpo", "grpo.reward=lenght"], "grpo.reward = 'lenght'; did you mean 'length'"),
        (["grpo.group=1"], "grpo.group = 1: at least 2"),
        (["grpo.temperature=0.0"], "grpo.temperature = 0.0: above 0"),
        (["grpo.updates=2", "dtype=bfloat16"], "grpo.updates = 2 with dtype = 'bfloat16'"),
    ],
)
def test_settings_that_cannot_be(overrides, told):
    with pytest.raises(UserError, match=told):
        build(*overrides)


def test_a_reward_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(policy.REWARDS, "length", lambda drawn, batch: drawn.mask.mean(-1) / 0)
    with pytest.raises(UserError, match="step 1: the reward is not finite.*; look at the reward function"):
        preference.train(config.load("preference/tiny", ["method=grpo", "grpo.reward=length"]), tmp_path)
