"""An autoencoder of scikit-learn's digits, binarised anew each epoch.

Cost        half a minute on 2 CPU cores; 0.05 M parameters
Run         almanac train vae/digits
"""

from experiments.vae.configs.base import base


def get_config():
    return base(
        model=dict(latent=8, hidden=(128, 128)),
        likelihood=dict(samples=1_000),
        score_samples=True,
        optim=dict(name="adam", peak_lr=1e-3, schedule="linear", warmup="1 epoch"),
        num_steps="200 epochs",
        log_every=100,
        eval_every="20 epochs",
        save_every="20 epochs",
    )
