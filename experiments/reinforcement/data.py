"""An environment as a `Dataset`: a batch is the numbers of the environments, and the same in every step."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.reinforcement.environment import Environment
from research.core.experiment import Baseline, Codec, Dataset
from research.data import codecs, user_files
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.util.errors import UserError

EVAL_KEY = 1_000_003  # of all evaluations: each run is measured on the same episodes


class Iterations(TrainBatches):
    """{"environment": i32[B]}, 0..B-1 in every step. An example is a step of an environment: durations and rates count those."""

    def __init__(self, num_envs: int, env_steps: int, seed: int):
        super().__init__(Arrays({"environment": np.arange(num_envs, dtype=np.int32)}), num_envs, seed, shuffle=False)
        self._env_steps = env_steps

    @property
    def examples_per_step(self) -> int:
        return self._env_steps

    @property
    def units(self) -> dict[str, int]:
        return {"examples": self._env_steps}


class Episodes(Dataset):
    """An environment to play in, `env_steps` steps of it a training step; evaluated by whole episodes."""

    def __init__(self, cfg: Any, environment: Environment, env_steps: int, seed: int):
        for key in ("batch_size", "eval_episodes"):
            if cfg[key] < 1:
                raise UserError(f"data.{key} = {cfg[key]}: at least 1")
        self.environment = environment
        self.train = Iterations(cfg.batch_size, env_steps, seed)
        episodes = Arrays({"episode": np.arange(cfg.eval_episodes, dtype=np.int32)})
        self.evals = {"valid": EvalBatches(episodes, cfg.eval_batch_size)}
        self.codec = Observation(tuple(environment.shape))
        self.report = [
            f"{environment.name}: observations {list(environment.shape)}, {environment.num_actions} actions, episodes of at "
            f"most {environment.limit} steps",
            f"{cfg.batch_size} environments, {env_steps:,} of their steps a training step",
            f"evaluated by {cfg.eval_episodes} episodes, the same in every run",
        ]

    def baselines(self) -> dict[str, Baseline]:
        rows, count = self.evals["valid"].source.arrays["episode"], self.environment.num_actions

        def uniform(observation, keys):
            return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys), {}

        returns, _ = jax.jit(lambda rows: self.environment.episodes(uniform, jax.random.key(EVAL_KEY), rows))(rows)
        return {"valid/return": Baseline({"random policy": float(returns.mean())}, "return")}


@codecs.register("observation")
@dataclasses.dataclass(frozen=True)
class Observation(Codec):
    """An observation of `shape` <-> what the agent makes of it."""

    shape: tuple[int, ...]

    takes = "observation"

    @property
    def inputs(self) -> dict[str, tuple]:
        return {"observation": (("b", *self.shape), "float32")}

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """An observation, or its numbers in one row -> f32[1, ...]. Raises UserError if it has another size, or none."""
        try:
            observation = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            raise UserError(f"no observation: want numbers of shape {list(self.shape)}") from None
        if observation.size != np.prod(self.shape, dtype=int):
            raise UserError(f"{observation.size} numbers; an observation has shape {list(self.shape)}")
        return {"observation": observation.reshape(1, *self.shape)}

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: np.round(np.asarray(value)[0], 4).tolist() for name, value in outputs.items()}

    def read(self, file: Path) -> np.ndarray:
        """A .npy file -> an observation. Raises UserError if it cannot be read."""
        return user_files.numbers(file, "observation")
