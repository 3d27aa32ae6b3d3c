"""A Gated PixelCNN over the codes of vq_vae/digits.

Cost        1 minute on 2 CPU cores (estimate); 0.09 M parameters
Run         almanac train vq_vae/digits_prior --init-from runs/vq_vae/digits
"""

from experiments.vq_vae.configs import digits


def get_config():
    return digits.get_config(
        stage="prior",
        prior=dict(width=32, dropout=0.2),
        score_samples=True,
        optim=dict(name="adam", peak_lr=1e-3, schedule="linear", warmup="1 epoch"),
        num_steps="60 epochs",
    )
