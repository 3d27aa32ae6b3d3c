"""A 3-D convolutional autoencoder of a digit that moves straight ahead; anomalies are what it reconstructs badly.

Cost        1 to 2 minutes on 2 CPU cores (estimate); 0.02 M parameters
Run         almanac train video_anomaly/digits_reconstruction
"""

from experiments.video_anomaly.configs.base import base


def get_config():
    return base(
        model=dict(name="autoencoder", widths=(8, 16)),
        optim=dict(name="adam", peak_lr=2e-3, warmup="50 steps"),
        num_steps="10 epochs",
        log_every=100,
        eval_every="5 epochs",
        save_every="5 epochs",
    )
