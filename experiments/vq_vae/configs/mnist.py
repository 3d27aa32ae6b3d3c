"""An autoencoder of MNIST: a picture is 7 x 7 codes of 256, 392 bits.

Cost        an hour on 2 CPU cores (estimate); 0.4 M parameters
Run         almanac train vq_vae/mnist
"""

from experiments.vq_vae.configs.base import base


def get_config(**changes):
    return base(
        **dict(
            data=dict(source="mnist", batch_size=128, eval_batch_size=500),
            model=dict(codes=256, halvings=2),
            optim=dict(name="adam", peak_lr=1e-3, schedule="linear", warmup="1 epoch"),
            num_steps="20 epochs",
            log_every=100,
            eval_every="1 epoch",
            save_every="1 epoch",
        )
        | changes
    )
