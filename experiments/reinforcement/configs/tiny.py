"""The contract's agent: PPO on CartPole, seconds on a CPU.

Run         almanac train reinforcement/tiny
"""

from experiments.reinforcement.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=8, eval_episodes=12, eval_batch_size=8),
        model=dict(hidden=(32, 32)),
        algorithm=dict(rollout=32, epochs=2, minibatches=2),
        optim=dict(peak_lr=1e-3),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
