"""The contract's GAN, on the grid of 25 modes: seconds on a CPU.

Run         almanac train gan/tiny
"""

from experiments.gan.configs.base import base


def get_config():
    return base(
        data=dict(source="grid", num_examples=1_000, batch_size=16),
        model=dict(
            name="mlp", latent=2, pack=2, generator=dict(width=32, num_layers=2),
            discriminator=dict(width=16, num_layers=2, pieces=2),
        ),
        optim=dict(name="adam", peak_lr=1e-3, schedule="constant", b1=0.5),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )  # fmt: skip
