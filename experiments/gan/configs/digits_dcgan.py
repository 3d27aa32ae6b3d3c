"""DCGAN (Radford 2016) on scikit-learn's 8 x 8 digits: nothing to download.

Cost        1 minute on 2 CPU cores; 0.07 M parameters
Run         almanac train gan/digits_dcgan
"""

from experiments.gan.configs.base import base


def get_config():
    return base(
        optim=dict(name="adam", peak_lr=2e-4, schedule="constant", b1=0.5, ema=0.995),
        num_steps=5_000,
    )
