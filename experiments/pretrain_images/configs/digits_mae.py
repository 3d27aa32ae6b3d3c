"""A masked autoencoder of scikit-learn's digits: 16 patches of 2 x 2 pixels, of which four are seen.

Cost        1 minute on 2 CPU cores; 0.2 M parameters
Run         almanac train pretrain_images/digits_mae
"""

from experiments.pretrain_images.configs.base import base


def get_config():
    return base(
        model=dict(
            name="mae", patch=2, width=64, num_layers=3, num_heads=4, pool="mean",
            decoder_width=32, decoder_layers=1, decoder_heads=4, normalise=False,
        ),
        optim=dict(peak_lr=3e-3, warmup="50 steps", weight_decay=0.05, b2=0.95),
        num_steps=1_000,
        log_every=50,
        eval_every=500,
        save_every=500,
    )  # fmt: skip
