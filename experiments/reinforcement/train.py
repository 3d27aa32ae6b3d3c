"""Reinforcement learning: PPO and DQN in environments that are JAX programs, so that play and updates are one jitted step.

The environments, their episodes so far, the replay buffer and the target network are part of the state.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import launch
from experiments.reinforcement import data as episodes
from experiments.reinforcement import model as models
from experiments.reinforcement.dqn import DQN
from experiments.reinforcement.environment import Environment
from experiments.reinforcement.ppo import PPO
from experiments.reinforcement.updates import by_agent, for_each, init_each, side_by_side, summed
from research.core import mesh, optim
from research.core.config import track_reads
from research.core.experiment import Experiment, Predictor
from research.core.metrics import pair
from research.core.state import TRAINING, TrainState
from research.core.step import Step, make_rngs, options
from research.interop import weights
from research.nn.from_config import choose, from_config
from research.run.run import Run
from research.util.errors import UserError

ALGORITHMS: dict[str, Any] = {"ppo": PPO, "dqn": DQN}
SHARES = ("discount", "decay", "epsilon_start", "epsilon_end", "exploration")  # from 0 to 1


def build(cfg: Any) -> Experiment:
    """Config -> environment, algorithm, optimiser and steps."""
    cfg = track_reads(cfg)
    choose(models.ACTIVATIONS, cfg.model.activation, "model.activation")
    algorithm, data, cfg = prepare(cfg)
    tx = optim.make(cfg.optim, cfg.num_steps, algorithm.updates)
    step_options = options(cfg)
    not_finite = step_options.pop("not_finite")
    step: Callable = partial(algorithm.train_step, tx, **step_options)
    init_fn, predict = partial(init, algorithm), algorithm.predict
    if (seeds := cfg.seeds) > 1:
        step, init_fn, tx = side_by_side(step), init_each(init_fn, cfg.seed, seeds), for_each(tx)
        predict = jax.vmap(predict, (0, None), 1)  # [B, agents, ...]
    return Experiment(
        cfg=cfg,
        train=data.train,
        evals=data.evals,
        init_fn=init_fn,
        load_pretrained=weights.pretrained(cfg.pretrained, None),
        tx=tx,
        train_step=Step(step, not_finite),
        eval_step=make_eval_step(algorithm, cfg.data.greedy, seeds),
        predictor=Predictor(predict, data.codec),
        rules=mesh.resolve(cfg.rules, models.SHARDING),
        sharding=models.SHARDING,
        ema=cfg.optim.ema,
        whole_batch="a step's rows are environments, which are played before there is anything to learn from",
        no_fixed_batch="an agent's own play is its data",
        model=algorithm.model,
        data=data,
    )


def prepare(cfg: Any) -> tuple[Any, episodes.Episodes, Any]:
    """-> the algorithm, the data, and the config with durations in steps. Raises UserError for keys of another algorithm."""
    group = {key: cfg.algorithm[key] for key in cfg.algorithm}
    made = choose(ALGORITHMS, group.pop("name"), "algorithm.name")
    if other := [key for key in group if key not in made.__dataclass_fields__]:
        raise UserError(
            f"algorithm.{other[0]} is no key of {cfg.algorithm.name}: begin with a config of that algorithm, or with "
            f"base(algorithm=dict(name={cfg.algorithm.name!r}))"
        )
    _check_numbers(cfg.seeds, group)
    environment = Environment(cfg.data.source)
    network = from_config(made.network, cfg.model, num_actions=environment.num_actions)
    algorithm = made(environment, network, num_envs=cfg.data.batch_size, num_steps=0, **group)
    data = episodes.Episodes(cfg.data, environment, algorithm.env_steps, cfg.seed)
    algorithm.check()
    cfg = cfg.in_steps(algorithm.env_steps, algorithm.env_steps)  # an epoch is a step
    return dataclasses.replace(algorithm, num_steps=cfg.num_steps), data, cfg


def _check_numbers(seeds: Any, group: Mapping[str, Any]) -> None:
    if not isinstance(seeds, int) or seeds < 1:
        raise UserError(f"seeds = {seeds!r}: agents side by side, at least 1")
    for key, value in group.items():
        if type(value) is int and value < 1:
            raise UserError(f"algorithm.{key} = {value}: at least 1")
        most = 1 if key in SHARES else float("inf")
        if isinstance(value, float) and not 0 <= value <= most:
            raise UserError(f"algorithm.{key} = {value}: a number from 0{' to 1' if key in SHARES else ''}")


def train(cfg: Any, workdir: str | Path, **options: Any) -> Any:
    """Trains a config, or an `Experiment`, to `num_steps`; resumes if `workdir` holds the run. Returns the final TrainState."""
    e = cfg if isinstance(cfg, Experiment) else build(cfg)
    with Run(e, workdir, **options) as run:
        state = run.start()
        for batch in run.batches():
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(state):
                run.log(split, values)
            state = run.save(state)
        return run.finish(state)


def init(algorithm: Any, key: jax.Array) -> dict:
    """-> {"params": ..., TRAINING: environments at the start of an episode, and the algorithm's memory}."""
    rngs = make_rngs(key, "params", "environments")
    environment = algorithm.environment
    params = algorithm.model.init(rngs["params"], jnp.zeros((1, *environment.shape)))["params"]
    playing = environment.reset(rngs["environments"], jnp.arange(algorithm.num_envs))
    return {"params": params, TRAINING: {"playing": playing, **algorithm.memory(params)}}


def make_eval_step(algorithm: Any, greedy: bool, seeds: int) -> Callable:
    """-> (state, {"episode": i32[B], "mask": f32[B]}) -> return and length by episode, environment steps trained."""

    def of_agent(params, batch):
        choose_action = partial(algorithm.act, params, greedy=greedy)
        key = jax.random.key(episodes.EVAL_KEY)
        total, length = algorithm.environment.episodes(choose_action, key, batch["episode"])
        return {"return": pair(total, batch["mask"]), "length": pair(length, batch["mask"])}

    @jax.jit
    def measure(params, step, batch):
        steps = {"env_steps": (algorithm.env_steps * step.astype(jnp.float32), jnp.float32(1))}
        if seeds == 1:
            return of_agent(params, batch) | steps
        metrics = jax.vmap(of_agent, (0, None))(params, batch)
        return summed(metrics) | by_agent(metrics) | steps

    def eval_step(state: TrainState, batch: Mapping) -> dict:
        return measure(state.variables["params"], state.step, batch)

    return eval_step


if __name__ == "__main__":
    launch.main(train)
