"""PPO on MinAtar's Breakout (Young and Tian 2019, 1903.03176), with gymnax-blines' settings and two networks of its size.

Reproduces  gymnax's README: Breakout-MinAtar, a return of 28 by gymnax-blines' PPO, one agent of 10,000,000 steps
Cost        15 minutes a seed on one CPU core; 0.34 M parameters
Run         almanac reproduce reinforcement/breakout_ppo

gymnax's Breakout has no sticky actions, and ends an episode after 1,000 steps. The rate is constant: gymnax-blines has a key for
its warm-up, from the same rate.
"""

from experiments.reinforcement.configs.base import base


def get_config():
    return base(
        data=dict(source="Breakout-MinAtar", batch_size=64),
        model=dict(hidden=(256, 256), activation="relu"),
        algorithm=dict(minibatches=8, discount=0.999),
        optim=dict(peak_lr=5e-4, schedule="constant"),
        num_steps="10_000_000 examples",
        log_every="100_000 examples",
        eval_every="1_000_000 examples",
        save_every="1_000_000 examples",
        reproduces=dict(
            paper="gymnax README", table="Breakout-MinAtar, PPO", metric="valid/return", select="last",
            value=28.0, low=25.0, high=31.0, seeds=3, cost="15 min a seed, one CPU core",
        ),
    )  # fmt: skip
