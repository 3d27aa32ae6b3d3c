"""The contract's autoencoder: seconds on a CPU.

Run         almanac train vae/tiny
"""

from experiments.vae.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=16, eval_batch_size=64),
        model=dict(latent=8, hidden=(32,), conditional=True),
        likelihood=dict(samples=4),
        optim=dict(name="adam", peak_lr=1e-2, schedule="constant"),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
