"""SN-GAN (Miyato 2018) with a projection discriminator (Miyato & Koyama 2018) on scikit-learn's 8 x 8 digits, class by class.

Cost        1 minute on 2 CPU cores; 0.08 M parameters
Run         almanac train gan/digits_sngan
"""

from experiments.gan.configs.base import base


def get_config():
    return base(
        model=dict(conditional=True, discriminator=dict(norm="spectral")),
        loss=dict(name="hinge"),
        optim=dict(name="adam", peak_lr=2e-4, schedule="constant", b1=0.0, b2=0.9, ema=0.995),
        num_steps=5_000,
    )
