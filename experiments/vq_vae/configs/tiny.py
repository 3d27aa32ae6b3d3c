"""The contract's autoencoder: seconds on a CPU.

Run         almanac train vq_vae/tiny
"""

from experiments.vq_vae.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(codes=16, code_width=4, width=16, blocks=1),
        prior=dict(width=8, num_layers=1),
        optim=dict(name="adam", peak_lr=1e-2, schedule="constant"),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
