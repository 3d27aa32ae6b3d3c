"""The family's defaults, PPO on CartPole. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys
from research.nn.from_config import choose

ALGORITHMS = {  # algorithm.name -> the class whose fields are its keys
    "ppo": "experiments.reinforcement.ppo.PPO",
    "dqn": "experiments.reinforcement.dqn.DQN",
}


def base(**changes: Any) -> ConfigDict:
    name = changes.get("algorithm", {}).get("name", "ppo")
    return config.merge(
        config.family_defaults(
            seeds=1,  # agents side by side in one program; agent i is that of a run with seed + i
            data=dict(
                source="CartPole-v1",  # any of gymnax.registered_envs with a finite set of actions
                batch_size=4,  # environments, B
                eval_episodes=128,
                eval_batch_size=128,  # episodes side by side
                greedy=False,  # evaluated by the likeliest action; else as it explores
            ),
            model=model_keys.fields("experiments.reinforcement.model.Network"),
            algorithm=dict(name=name, **model_keys.fields(choose(ALGORITHMS, name, "algorithm.name"))),
            optim=config.OPTIM | dict(name="adam", peak_lr=2.5e-4, schedule="linear", eps=1e-5, clip_norm=0.5),
            # Durations in examples are steps of the environments, all together; an epoch is one training step.
            num_steps="500_000 examples",
            log_every="50_000 examples",
            eval_every="50_000 examples",
            save_every="50_000 examples",
            best=dict(metric="valid/return", mode="max", patience=None),
        ),
        **changes,
    )
