"""PPO on MinAtar's Breakout (Young and Tian 2019, 1903.03176), with gymnax-blines' settings and two networks of its size.

Cost        about 17 minutes of CPU time, estimated from a few steps; 0.34 M parameters
Run         almanac train reinforcement/breakout_ppo

gymnax's README states a return of 28 for gymnax-blines' agent. gymnax's Breakout has no sticky actions, and ends an episode
after 1,000 steps. gymnax-blines warms the rate up and then keeps it, as here.
"""

from experiments.reinforcement.configs.base import base


def get_config():
    return base(
        data=dict(source="Breakout-MinAtar", batch_size=64),
        model=dict(hidden=(256, 256)),
        algorithm=dict(minibatches=8, discount=0.999),
        optim=dict(peak_lr=5e-4, schedule="constant", warmup="500_000 examples"),
        num_steps="10_000_000 examples",
        log_every="100_000 examples",
        eval_every="1_000_000 examples",
        save_every="1_000_000 examples",
    )
