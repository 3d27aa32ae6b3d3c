"""PPO on CartPole: CleanRL's ppo.py.

Reproduces  CleanRL's documentation, ppo.py: CartPole-v1 490.04 +- 6.12, three seeds of 500,000 steps
Cost        half a minute a seed on 2 CPU cores; 0.01 M parameters
Run         almanac reproduce reinforcement/cartpole_ppo

The source averages the returns of training's last episodes, of the policy that samples; so does train/return of the last
interval of 50,000 steps here. Its code ends a return at the time limit of 500 steps; here the last observation's value stands
for the rest.
Earlier versions of its table have 488.75 +- 18.40 and 492.40 +- 13.05.
"""

from experiments.reinforcement.configs.base import base


def get_config(source="CartPole-v1", value=490.04, low=470.0, high=500.0):
    return base(
        data=dict(source=source),
        reproduces=dict(
            paper="CleanRL ppo.py", table=f"documentation, {source}", metric="train/return", select="last",
            value=value, low=low, high=high, seeds=5, cost="30 s a seed, 2 CPU cores",
        ),
    )  # fmt: skip
