"""Agents: environments against Gymnasium's, episodes, the replay buffer's place in the state, agents side by side."""

import json

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control import cartpole

from experiments.reinforcement import train as family
from experiments.reinforcement.configs.base import base
from experiments.reinforcement.environment import Environment
from research.core import config, mesh, state
from research.core.guard import Guard
from research.core.state import TRAINING
from research.util.errors import UserError
from tests.stopped import train_until

ROWS = jnp.arange(8)
DQN = dict(updates=3, play_length=4, replay_size=64, replay_batch=16, learning_starts=8, target_interval=32)


def tiny(name="ppo", **groups):
    """`tiny`, or DQN of its size."""
    cfg = config.load("reinforcement/tiny")
    if name == "dqn":
        cfg = base(
            data=dict(batch_size=8, eval_episodes=8, eval_batch_size=8),
            model=dict(hidden=(32,), activation="relu"),
            algorithm=dict(name="dqn", **DQN),
            optim=dict(schedule="constant", peak_lr=1e-3),
            num_steps=12, log_every=4, eval_every=6, save_every=3,
        )  # fmt: skip
    with cfg.unlocked(), cfg.ignore_type():
        for group, values in groups.items():
            if isinstance(values, dict):
                cfg[group].update(values)
            else:
                cfg[group] = values
    return cfg


def on_devices(count, e, steps, seed=0):
    """-> the state after `steps` steps, and each step's metrics."""
    devices = mesh.make_mesh({"data": count}, jax.devices()[:count])
    with jax.set_mesh(devices):
        now, rows = state.create(e.init_fn, e.tx, seed, devices), []
        step = type(e.train_step)(e.train_step.fn)
        for batch in e.train.on_device(devices, 0, steps):
            now, metrics = step(now, batch)
            rows.append(jax.device_get(metrics))
    return now, rows


def left(observation, keys):
    return jnp.zeros(len(observation), jnp.int32), {}


# Environments


def test_cartpole_is_gymnasiums():
    """The same physics, rewards and ends, from the same states."""
    import gymnasium

    theirs, ours = gymnasium.make("CartPole-v1").unwrapped, Environment("CartPole-v1")
    theirs.reset(seed=0)
    playing = ours.reset(jax.random.key(0), jnp.arange(1))
    theirs.state = tuple(np.asarray(playing["observation"][0], np.float64))
    rng, step = np.random.default_rng(0), jax.jit(ours.step)
    for _ in range(100):
        action = int(rng.integers(2))
        observation, reward, terminated, _, _ = theirs.step(action)
        playing, row = step(playing, jnp.array([action]), jax.random.split(jax.random.key(1), 1))
        np.testing.assert_allclose(row["next_observation"][0], observation, rtol=1e-4, atol=1e-5)
        assert (float(row["reward"][0]), bool(row["terminated"][0])) == (reward, terminated)
        if terminated:
            break
    assert terminated and playing["length"][0] == 0  # a new episode
    assert np.abs(playing["observation"]).max() <= 0.05 < np.abs(row["next_observation"]).max()


def test_a_time_limit_ends_an_episode_without_termination():
    environment = Environment("Acrobot-v1")  # never reaches its goal with one action
    torque = lambda observation, keys: (jnp.ones(len(observation), jnp.int32), {})  # noqa: E731 -- action 1 is no torque
    playing = environment.reset(jax.random.key(0), ROWS[:2])
    after, rows = jax.jit(lambda p: environment.play(torque, 501, p, jax.random.key(1), ROWS[:2]))(playing)
    assert np.flatnonzero(rows["done"][:, 0]).tolist() == [499] and not rows["terminated"].any()
    assert (float(rows["return"][499, 0]), int(rows["length"][499, 0])) == (-500.0, 500)
    assert after["length"].tolist() == [1, 1]


def test_episodes_are_whole_and_do_not_depend_on_their_batch():
    environment = Environment("CartPole-v1")

    def run(rows):
        return jax.jit(lambda rows: environment.episodes(left, jax.random.key(3), rows))(rows)

    returns, lengths = run(ROWS)
    assert (
        (returns == lengths).all() and 8 <= lengths.min() and lengths.max() <= 12
    )  # it falls to the right in about 9 steps
    assert returns[2:4].tolist() == run(ROWS[2:4])[0].tolist()


def test_every_environment_with_a_finite_set_of_actions_can_be_played():
    """Arrays keep their shapes and types from a reset through steps, so that one program serves all steps."""
    refused = []
    for name in sorted(set(gymnax.registered_envs) - {"MNISTBandit-bsuite", "NaN-test"}):  # the first downloads
        try:
            environment = Environment(name)
        except UserError:
            refused.append(name)
            continue

        def run(rows, environment=environment):
            first = environment.reset(jax.random.key(0), rows)
            return first, *environment.play(left, 2, first, jax.random.key(1), rows)

        before, after, rows = jax.eval_shape(run, ROWS)
        assert before == after, name
        assert rows["next_observation"].shape == (2, 8, *environment.shape), name
    assert refused == ["MountainCarContinuous-v0", "Pendulum-v1", "PointRobot-misc", "Reacher-misc", "Swimmer-misc"]


# Both algorithms


@pytest.mark.parametrize("change", [{}, {"double": True, "huber": 1.0}])
def test_dqn_on_eight_devices_is_dqn_on_one(change):
    e = family.build(tiny("dqn", algorithm=change))
    (one, alone), (eight, split) = (on_devices(n, e, 4) for n in (1, 8))
    for a, b in zip(alone, split, strict=True):
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=2e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(eight.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_dqn_waits_copies_and_explores_as_it_says():
    cfg = tiny("dqn", algorithm=dict(learning_starts=96, target_interval=192, updates=1, play_length=4), num_steps=20)
    e = family.build(cfg)
    first, _ = on_devices(1, e, 2)  # 64 steps: not begun
    begun, _ = on_devices(1, e, 3)
    fresh = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    equal = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))  # noqa: E731
    assert equal(fresh.params, first.params) and equal(fresh.opt, first.opt)
    assert not equal(fresh.params, begun.params) and equal(fresh.params, begun.model_state[TRAINING]["target"])
    copied, rows = on_devices(1, e, 6)
    assert equal(copied.params, copied.model_state[TRAINING]["target"])  # at 192 steps
    assert int(copied.model_state[TRAINING]["replay"].added) == 192
    # From 1 to 0.05 in half of 20 steps.
    np.testing.assert_allclose([row["epsilon"][0] for row in rows], 1 - 0.095 * np.arange(6), rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_resumed_agent_is_the_undisturbed_one(name, tmp_path, capsys):
    """Environments, episodes so far, replay buffer and target network too, to the bit."""
    whole = family.train(tiny(name), tmp_path / "whole")
    train_until(family.build(tiny(name)), tmp_path / "parts", 6)
    resumed = family.train(tiny(name), tmp_path / "parts")
    assert "resumed at step 6 of" in capsys.readouterr().out
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        a, b = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (a, b))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_an_agent_beside_others_is_the_agent_alone(name):
    together = family.build(tiny(name, seeds=3))
    now, rows = on_devices(1, together, 3)
    for i in (0, 2):
        alone, own = on_devices(1, family.build(tiny(name, seed=i)), 3, seed=i)
        for row, other in zip(rows, own, strict=True):
            np.testing.assert_allclose(row[f"return_{i}"], other["return"], rtol=1e-5)
        for a, b in zip(jax.tree.leaves(now.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-4)
    for row in rows:
        np.testing.assert_allclose(row["return"][0], sum(row[f"return_{i}"][0] for i in range(3)), rtol=1e-6)
    batch = jax.tree.map(jnp.asarray, together.evals["valid"].batch(0))
    metrics = together.eval_step(now, batch)
    assert {"return", "length", "env_steps", "return_0", "return_2"} <= metrics.keys()
    outputs = together.predictor.fn(now.variables, {"observation": jnp.zeros((5, 4))})
    assert outputs["action"].shape == (5, 3)


def test_inference_takes_what_training_alone_needs_from_no_one():
    e = family.build(tiny("dqn"))
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    assert {"playing", "replay", "target"} == now.model_state[TRAINING].keys() and now.variables.keys() == {"params"}
    outputs = jax.jit(e.predictor.fn)(now.variables, e.predictor.codec.encode([0.1, 0.0, -0.1, 0.0]))
    decoded = e.predictor.codec.decode(jax.device_get(outputs))
    assert decoded["value"] == max(decoded["q"]) == decoded["q"][decoded["action"]]


def test_ppo_learns():
    """15,360 steps are enough to balance three times as long as by chance."""
    e = family.build(tiny(num_steps=60))
    now, _ = on_devices(1, e, 60)
    total, weight = e.eval_step(now, jax.tree.map(jnp.asarray, e.evals["valid"].batch(0)))["return"]
    assert total / weight > 3 * 22


class NoReward(cartpole.CartPole):
    def step_env(self, key, state, action, params):
        observation, state, _, done, info = super().step_env(key, state, action, params)
        return observation, state, jnp.where(state.time == 5, jnp.nan, 1.0), done, info


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_reward_that_is_not_finite_stops_the_run(name):
    """In the step in which it is met, though DQN's buffer might be drawn from without it."""
    if "NaN-test" not in gymnax.registered_envs:
        gymnax.register("NaN-test", NoReward)
    e = family.build(tiny(name, data=dict(source="NaN-test")))
    now, (metrics,) = on_devices(1, e, 1)
    guard = Guard("stop", now.params, e.tx)
    guard.row(1, metrics)
    assert guard.fault == (1, "the reward") and int(now.step) == 0 and int(now.skipped) == 1
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(now.params))


@pytest.mark.parametrize(
    "line, name, groups",
    [
        ("data.source = 'CartPole-v2'; did you mean 'CartPole-v1'?", "ppo", dict(data=dict(source="CartPole-v2"))),
        ("its actions are continuous; want one with a finite set", "dqn", dict(data=dict(source="Pendulum-v1"))),
        ("algorithm.minibatches = 3 does not divide the 256 steps", "ppo", dict(algorithm=dict(minibatches=3))),
        ("algorithm.replay_size = 100 is no multiple of", "dqn", dict(algorithm=dict(replay_size=100))),
        ("algorithm.clip is no key of dqn: begin with", "ppo", dict(algorithm=dict(name="dqn"))),
        ("algorithm.rollout = 0: at least 1", "ppo", dict(algorithm=dict(rollout=0))),
        ("algorithm.discount = 1.5: a number from 0 to 1", "dqn", dict(algorithm=dict(discount=1.5))),
        ("data.batch_size = 0: at least 1", "dqn", dict(data=dict(batch_size=0))),
        ("seeds = 0: agents side by side, at least 1", "ppo", dict(seeds=0)),
        ("model.activation = 'gelu'", "ppo", dict(model=dict(activation="gelu"))),
    ],
)
def test_bad_input_is_one_line(line, name, groups):
    with pytest.raises(UserError) as raised:
        family.build(tiny(name, **groups))
    assert line in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [[1.0, 2.0], "left", [[1.0], [2.0, 3.0]]])
def test_an_observation_of_another_size_is_refused(value):
    with pytest.raises(UserError, match="shape \\[4\\]"):
        family.build(tiny()).predictor.codec.encode(value)


def test_the_log_counts_steps_of_environments(tmp_path):
    family.train(tiny(num_steps=4), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["values"]["env_steps"] for row in rows if row["split"] == "valid"] == [4 * 8 * 32]
