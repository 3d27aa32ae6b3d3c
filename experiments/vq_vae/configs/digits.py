"""An autoencoder of scikit-learn's digits: a picture is 16 codes of 64, 96 bits.

Cost        2 minutes on 2 CPU cores (estimate); 0.07 M parameters
Run         almanac train vq_vae/digits
"""

from experiments.vq_vae.configs.base import base


def get_config(**changes):
    return base(
        **dict(
            model=dict(width=32),
            optim=dict(name="adam", peak_lr=1e-3, schedule="linear", warmup="1 epoch"),
            num_steps="100 epochs",
            log_every=100,
            eval_every="10 epochs",
            save_every="10 epochs",
        )
        | changes
    )
