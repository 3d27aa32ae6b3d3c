"""Steps of CartPole a second: the whole training step here, beside Gymnasium's environments played by the same policy.

    python -m tools.dev.bench.bench_gymnasium

Gymnasium's column plays alone (SyncVectorEnv, and the policy jitted), and learns nothing. Rounds alternate; printed are medians.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium
import jax
import numpy as np

from experiments.reinforcement.train import build
from research.cluster import cpu
from research.core import config, mesh, state

ENVIRONMENTS, ROUNDS, SECONDS = (4, 64, 1024), 5, 2.0


def ours(e: Any) -> Callable[[], int]:
    """-> one training step, rollout and updates: returns the environments' steps."""
    one = mesh.make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        now = [state.create(e.init_fn, e.tx, 0, one)]
        batch = next(iter(e.train.on_device(one, 0, 1)))

    def step() -> int:
        with jax.set_mesh(one):
            now[0], metrics = e.train_step(now[0], batch)
        jax.block_until_ready(metrics)
        return e.train.examples_per_step

    return step


def theirs(e: Any, count: int, steps: int = 32) -> Callable[[], int]:
    """-> some steps of `count` environments of Gymnasium's, with our network's sampled actions."""
    environments = gymnasium.make_vec("CartPole-v1", num_envs=count, vectorization_mode="sync")
    params, key, observation = (
        e.init_fn(jax.random.key(0))["params"],
        jax.random.key(1),
        [environments.reset(seed=0)[0]],
    )

    @jax.jit
    def act(params, observation, key):
        return jax.random.categorical(key, e.model.apply({"params": params}, observation)[0])

    def step() -> int:
        for i in range(steps):
            action = np.asarray(act(params, observation[0], jax.random.fold_in(key, i)))
            observation[0] = environments.step(action)[0]
        return steps * count

    return step


def rate(step: Callable[[], int]) -> float:
    """Steps a second, over SECONDS."""
    steps, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        steps += step()
    return steps / seconds


def main() -> None:
    cpu.tune()
    for count in ENVIRONMENTS:
        e = build(config.load("reinforcement/cartpole_ppo", [f"data.batch_size={count}"]))
        columns = {"ours, play and updates": ours(e), "Gymnasium, play alone": theirs(e, count)}
        for step in columns.values():
            step()  # compiles
        rounds = [{name: rate(step) for name, step in columns.items()} for _ in range(ROUNDS)]
        a, b = (median(row[name] for row in rounds) for name in columns)
        print(f"{count:5} environments: {', '.join(columns)}: {a:,.0f} and {b:,.0f} steps a second, {a / b:.1f} times")


if __name__ == "__main__":
    main()
