"""DQN on Acrobot: CleanRL's dqn.py, with what it has for CartPole.

Reproduces  CleanRL's documentation, dqn.py: Acrobot-v1 -91.54 +- 7.20, three seeds of 500,000 steps
Cost        about 1 minute a seed on 2 CPU cores; 0.01 M parameters
Run         almanac reproduce reinforcement/acrobot_dqn
"""

from experiments.reinforcement.configs import cartpole_dqn


def get_config():
    return cartpole_dqn.get_config(source="Acrobot-v1", value=-91.54, low=-106.0, high=-80.0)
