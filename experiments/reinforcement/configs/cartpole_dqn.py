"""DQN on CartPole: CleanRL's dqn.py.

Reproduces  CleanRL's documentation, dqn.py: CartPole-v1 488.69 +- 16.11, three seeds of 500,000 steps
Cost        about 1 minute a seed on 2 CPU cores; 0.01 M parameters
Run         almanac reproduce reinforcement/cartpole_dqn

The source averages the returns of training's last episodes, with an epsilon of 0.05; so does train/return of the last interval
of 50,000 steps here. It makes no gradient clipping and does not anneal the rate.
"""

from experiments.reinforcement.configs.base import base


def get_config(source="CartPole-v1", value=488.69, low=455.0, high=500.0):
    return base(
        data=dict(source=source, batch_size=1),
        algorithm=dict(name="dqn"),
        model=dict(hidden=(120, 84), activation="relu"),
        optim=dict(schedule="constant", eps=1e-8, clip_norm=0.0),
        reproduces=dict(
            paper="CleanRL dqn.py", table=f"documentation, {source}", metric="train/return", select="last",
            value=value, low=low, high=high, seeds=5, cost="1 min a seed, 2 CPU cores",
        ),
    )  # fmt: skip
