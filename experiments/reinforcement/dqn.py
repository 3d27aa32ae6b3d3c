"""Deep Q-learning (Mnih et al. 2015, Nature 518) from a replay buffer that is part of the state, with CleanRL's defaults."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.reinforcement.environment import Environment, of_episodes, sharded
from experiments.reinforcement.model import QNetwork
from experiments.reinforcement.updates import summed
from research.algorithms import replay
from research.core.metrics import pair
from research.core.state import TRAINING, TrainState
from research.core.step import advance, cast, make_rngs, update
from research.losses import reinforcement as losses
from research.util.errors import UserError

STORED = ("observation", "action", "reward", "terminated", "next_observation")


@dataclasses.dataclass(frozen=True)
class DQN:
    """`updates` times in a training step: plays `play_length` of each environment, and makes one update from the buffer.

    The fields with defaults are the keys of the config's `algorithm` group. What counts steps counts an environment's, of all
    environments together.
    """

    environment: Environment
    model: Any
    num_envs: int
    num_steps: int
    updates: int = 10
    play_length: int = 10  # of each environment before an update
    replay_size: int = 10_000
    replay_batch: int = 128  # transitions in an update
    learning_starts: int = 10_000  # steps before the first update
    target_interval: int = 500  # steps between copies to the target network
    discount: float = 0.99
    epsilon_start: float = 1.0  # probability of a random action
    epsilon_end: float = 0.05
    exploration: float = 0.5  # part of the training in which it falls
    double: bool = False  # the online network chooses the next action (1509.06461)
    huber: float = 0.0  # where the error becomes linear; 0: squared everywhere

    network = QNetwork

    def check(self) -> None:
        """Raises UserError if sizes do not divide."""
        played = self.play_length * self.num_envs
        of = f"algorithm.play_length * data.batch_size = {played} steps before an update"
        for key in ("replay_size", "target_interval"):
            if getattr(self, key) % played:
                raise UserError(f"algorithm.{key} = {getattr(self, key)} is no multiple of {of}")

    @property
    def env_steps(self) -> int:
        """Of a training step."""
        return self.updates * self.play_length * self.num_envs

    def memory(self, params: Any) -> dict[str, Any]:
        """What the state keeps besides parameters and environments: the target network and the buffer."""
        shape = jax.ShapeDtypeStruct
        observation, number = shape(self.environment.shape, jnp.float32), shape((), jnp.float32)
        row = dict(zip(STORED, (observation, shape((), jnp.int32), number, shape((), bool), observation), strict=True))
        return {"target": jax.tree.map(jnp.copy, params), "replay": replay.empty(self.replay_size, row)}

    def epsilon(self, step: jax.Array) -> jax.Array:
        """Of a training step i32[]: falls linearly, then stays."""
        part = jnp.minimum(step / max(self.exploration * self.num_steps, 1.0), 1.0)
        return self.epsilon_start + part * (self.epsilon_end - self.epsilon_start)

    def train_step(
        self, tx: Any, state: TrainState, batch: Mapping, *, ema: float, dtype: str, **options: Any
    ) -> tuple[TrainState, dict]:
        """{"environment": i32[B]} -> `updates` turns of play and update. `options` are those of `step.update`."""
        learn = partial(update, loss=partial(self.loss, dtype), tx=tx, **options)
        one = partial(self._turn, learn, dtype, batch["environment"])
        after, metrics = jax.lax.scan(one, state, jnp.arange(self.updates))
        return advance(after, ema), summed(metrics)

    def _turn(self, learn: Callable, dtype: str, rows: jax.Array, state: TrainState, i: jax.Array) -> tuple:
        rngs = make_rngs(jax.random.fold_in(jax.random.fold_in(state.key, state.step), i), "play", "replay")
        memory = state.model_state[TRAINING]
        epsilon, q = self.epsilon(state.step + i / self.updates), partial(self._q, dtype)
        choose = partial(self._explore, partial(q, state.params), epsilon)
        playing, played = self.environment.play(choose, self.play_length, memory["playing"], rngs["play"], rows)
        flat = {name: played[name].reshape(-1, *played[name].shape[2:]) for name in STORED}
        buffer = replay.add(memory["replay"], flat)
        drawn = sharded(replay.sample(buffer, rngs["replay"], self.replay_batch))
        following = drawn["next_observation"]
        online = q(state.params, following) if self.double else None
        next_q = q(memory["target"], following)
        drawn["target"] = losses.q_target(drawn["reward"], drawn["terminated"], next_q, online, self.discount)
        # One that is not finite stops the run now, not when it is drawn.
        drawn["target"] += jnp.where(jnp.isfinite(played["reward"]).all(), 0.0, jnp.nan)
        learnt, metrics = learn(state.replace(model_state={}), drawn, rng_index=i)
        starts = buffer.added >= self.learning_starts
        params, opt = jax.tree.map(
            lambda new, old: jnp.where(starts, new, old), (learnt.params, learnt.opt), (state.params, state.opt)
        )
        metrics = {k: v if k == "bad" else (v[0] * starts, v[1] * starts) for k, v in metrics.items()}
        copies = starts & (buffer.added % self.target_interval == 0)
        target = jax.tree.map(lambda new, old: jnp.where(copies, new, old), params, memory["target"])
        memory = {**memory, "playing": playing, "replay": buffer, "target": target}
        state = state.replace(params=params, opt=opt, model_state={**state.model_state, TRAINING: memory})
        metrics |= of_episodes(played) | {"epsilon": (epsilon, jnp.float32(1))}
        return state, metrics

    def _q(self, dtype: str, params: Any, observation: jax.Array) -> jax.Array:
        return self.model.apply({"params": cast(params, dtype)}, cast(observation, dtype))

    def _explore(self, q: Callable, epsilon: Any, observation: jax.Array, keys: jax.Array) -> tuple[jax.Array, dict]:
        def one(key, best):
            chance, choice = jax.random.split(key)
            random = jax.random.randint(choice, (), 0, self.environment.num_actions)
            return jnp.where(jax.random.uniform(chance) < epsilon, random, best)

        return jax.vmap(one)(keys, q(observation).argmax(-1)), {}

    def loss(self, dtype: str, params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        """Transitions with targets -> the term of squared or Huber error, metrics. Only the network computes in `dtype`."""
        del key
        q = self._q(dtype, params, batch["observation"])
        error = pair(losses.temporal_difference(q, batch["action"], batch["target"], self.huber))
        taken = jnp.take_along_axis(q, batch["action"][:, None], 1)
        return {"loss": (*error, 1.0)}, ({"loss": error, "q": pair(taken)}, model_state)

    def act(self, params: Any, observation: jax.Array, keys: jax.Array, greedy: bool) -> tuple[jax.Array, dict]:
        """-> actions i32[B], the best, but for a random one with the last epsilon unless `greedy`."""
        return self._explore(
            partial(self._q, "float32", params), 0.0 if greedy else self.epsilon_end, observation, keys
        )

    def predict(self, variables: Mapping, inputs: Mapping) -> dict[str, jax.Array]:
        """{"observation": f32[B, ...]} -> the best action i32[B], Q f32[B, N], value f32[B]."""
        q = self.model.apply({"params": variables["params"]}, inputs["observation"])
        return {"action": q.argmax(-1), "q": q, "value": q.max(-1)}
