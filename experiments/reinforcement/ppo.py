"""Proximal policy optimisation (Schulman et al. 2017, 1707.06347), with CleanRL's defaults."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.reinforcement.environment import Environment, of_episodes, sharded
from experiments.reinforcement.model import ActorCritic
from experiments.reinforcement.updates import summed
from research.core.metrics import objective, pair
from research.core.state import TRAINING, TrainState
from research.core.step import advance, cast, make_rngs, update
from research.losses import reinforcement as losses
from research.util.errors import UserError


@dataclasses.dataclass(frozen=True)
class PPO:
    """Plays `rollout` steps of each environment, then goes through them `epochs` times in `minibatches` parts.

    The fields with defaults are the keys of the config's `algorithm` group.
    """

    environment: Environment
    model: Any
    num_envs: int
    num_steps: int
    rollout: int = 128  # steps of each environment, T
    epochs: int = 4
    minibatches: int = 4  # an epoch
    discount: float = 0.99
    decay: float = 0.95  # of the advantage: lambda
    clip: float = 0.2  # of the policy's ratio
    value_clip: float = 0.2  # of the change of the value; 0 is off
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    normalize: bool = True  # advantages, in each minibatch

    network = ActorCritic

    def check(self) -> None:
        """Raises UserError if a rollout does not divide into minibatches."""
        rows = self.rollout * self.num_envs
        if rows % self.minibatches:
            raise UserError(
                f"algorithm.minibatches = {self.minibatches} does not divide the {rows} steps of a rollout "
                f"(algorithm.rollout = {self.rollout} of data.batch_size = {self.num_envs} environments)"
            )

    @property
    def env_steps(self) -> int:
        """Of a training step."""
        return self.rollout * self.num_envs

    @property
    def updates(self) -> int:
        """Of the optimiser, in a training step."""
        return self.epochs * self.minibatches

    def memory(self, params: Any) -> dict[str, Any]:
        """What the state keeps besides parameters and environments."""
        del params
        return {}

    def train_step(
        self, tx: Any, state: TrainState, batch: Mapping, *, ema: float, dtype: str, **options: Any
    ) -> tuple[TrainState, dict]:
        """{"environment": i32[B]} -> one iteration: a rollout, and the updates from it. `options` are those of `step.update`."""
        rngs = make_rngs(jax.random.fold_in(state.key, state.step), "play", "order")
        memory, outputs = state.model_state[TRAINING], partial(self._outputs, dtype, state.params)
        playing, played = self.environment.play(
            partial(self._explore, outputs), self.rollout, memory["playing"], rngs["play"], batch["environment"]
        )
        rows = self._rows(outputs, played)
        orders = [
            jax.random.permutation(jax.random.fold_in(rngs["order"], i), self.env_steps) for i in range(self.epochs)
        ]

        def one(learning, numbered):
            i, order = numbered
            minibatch = sharded({name: value[order] for name, value in rows.items()})
            return update(learning, minibatch, partial(self.loss, dtype), tx, rng_index=i, **options)

        numbered = (jnp.arange(self.updates), jnp.stack(orders).reshape(self.updates, -1))
        after, metrics = jax.lax.scan(one, state.replace(model_state={}), numbered)
        after = after.replace(model_state={**state.model_state, TRAINING: {**memory, "playing": playing}})
        return advance(after, ema), {**summed(metrics), **of_episodes(played)}

    def _outputs(self, dtype: str, params: Any, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.model.apply({"params": cast(params, dtype)}, cast(observation, dtype))

    def _explore(self, outputs: Callable, observation: jax.Array, keys: jax.Array) -> tuple[jax.Array, dict]:
        logits, value = outputs(observation)
        action = jax.vmap(jax.random.categorical)(keys, logits)
        return action, {"log_prob": losses.log_probability(logits, action), "value": value}

    def _rows(self, outputs: Callable, played: Mapping) -> dict[str, jax.Array]:
        """Transitions [T, B, ...] -> rows to learn from, [T * B, ...], with advantages."""
        after = played["next_observation"]
        _, next_value = outputs(after.reshape(-1, *after.shape[2:]))
        advantage = losses.generalized_advantage(
            played["reward"], played["value"], next_value.reshape(after.shape[:2]), played["terminated"], played["done"],
            self.discount, self.decay,
        )  # fmt: skip
        rows = {name: played[name] for name in ("observation", "action", "log_prob", "value")}
        rows |= {"advantage": advantage, "target": advantage + played["value"]}
        return {name: value.reshape(-1, *value.shape[2:]) for name, value in rows.items()}

    def loss(self, dtype: str, params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        """Rows of a rollout -> terms of policy, value and entropy (1707.06347, eq. 9), metrics.

        Only the network computes in `dtype`: half precision would lose the ratio of probabilities.
        """
        del key
        logits, value = self._outputs(dtype, params, batch["observation"])
        log_prob, advantage = losses.log_probability(logits, batch["action"]), batch["advantage"]
        if self.normalize:
            advantage = (advantage - advantage.mean()) / (advantage.std(ddof=1) + 1e-8)
        policy = pair(losses.clipped_surrogate(log_prob, batch["log_prob"], advantage, self.clip))
        error = pair(losses.clipped_value(value, batch["value"], batch["target"], self.value_clip))
        entropy = pair(losses.entropy(logits))
        terms = {
            "policy": (*policy, 1.0),
            "value": (*error, self.value_weight),
            "entropy": (*entropy, -self.entropy_weight),
        }
        log_ratio = log_prob - batch["log_prob"]
        metrics = {
            "loss": (objective(terms), jnp.float32(1)),
            "policy_loss": policy,
            "value_loss": error,
            "entropy": entropy,
            "kl": pair(jnp.expm1(log_ratio) - log_ratio),  # from the policy that played; unbiased, and never below 0
            "clipped": pair(jnp.abs(jnp.expm1(log_ratio)) > self.clip),
        }
        return terms, (metrics, model_state)

    def act(self, params: Any, observation: jax.Array, keys: jax.Array, greedy: bool) -> tuple[jax.Array, dict]:
        """-> actions i32[B], of the policy, or its most probable one."""
        logits, _ = self.model.apply({"params": params}, observation)
        return logits.argmax(-1) if greedy else jax.vmap(jax.random.categorical)(keys, logits), {}

    def predict(self, variables: Mapping, inputs: Mapping) -> dict[str, jax.Array]:
        """{"observation": f32[B, ...]} -> the most probable action i32[B], probabilities f32[B, N], value f32[B]."""
        logits, value = self.model.apply({"params": variables["params"]}, inputs["observation"])
        return {"action": logits.argmax(-1), "probabilities": jax.nn.softmax(logits), "value": value}
