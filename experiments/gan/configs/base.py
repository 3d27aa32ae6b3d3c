"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # grid, or any source of image_classification
                path=None,
                size=None,  # files, tfds: pixels, or (Y, X)
                channels=None,  # files, tfds: 1 or 3
                data_dir=None,  # tfds: where it was prepared
                valid_fraction=None,
                test_fraction=None,
                num_examples=None,  # grid: default 100,000
                batch_size=64,  # rows the discriminator sees in an update, B
            ),
            model=dict(
                name="dcgan",  # mlp (grid), dcgan (pictures)
                latent=64,  # Z
                pack=1,  # samples a row: PacGAN
                generator=dict(width=None, num_layers=None),  # None is the network's default
                discriminator=dict(width=None, num_layers=None, pieces=None, norm=None),
            ),
            loss=dict(
                name="gan",  # gan (non-saturating), wgan_gp
                critic_steps=1,  # discriminator updates a step
                simultaneous=False,  # both updates from the same parameters
                penalty=10.0,  # wgan_gp: weight of the gradient penalty
                smoothing=0.0,  # gan: of the real label, one-sided
            ),
            discriminator_lr=None,  # None is optim.peak_lr
            num_steps=5_000,
            eval_every=500,
            save_every=500,
        ),
        **changes,
    )
