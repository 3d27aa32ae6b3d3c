"""WGAN-GP (Gulrajani 2017) on scikit-learn's 8 x 8 digits: nothing to download.

Cost        2 minutes on 2 CPU cores; 0.07 M parameters
Run         almanac train gan/digits_wgan_gp
"""

from experiments.gan.configs.base import base


def get_config():
    return base(
        loss=dict(name="wgan_gp", critic_steps=5),
        optim=dict(name="adam", peak_lr=1e-4, schedule="constant", b1=0.0, b2=0.9, ema=0.995),
        num_steps=4_000,
    )
