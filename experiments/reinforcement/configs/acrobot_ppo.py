"""PPO on Acrobot: CleanRL's ppo.py, with what it has for CartPole.

Reproduces  CleanRL's documentation, ppo.py: Acrobot-v1 -86.36 +- 1.32, three seeds of 500,000 steps
Cost        half a minute a seed on 2 CPU cores; 0.01 M parameters
Run         almanac reproduce reinforcement/acrobot_ppo

Earlier versions of its table have -82.48 +- 5.93 and -89.93 +- 6.34.
"""

from experiments.reinforcement.configs import cartpole_ppo


def get_config():
    return cartpole_ppo.get_config(source="Acrobot-v1", value=-86.36, low=-96.0, high=-78.0)
