"""A U-Net that predicts the next frame of a digit that moves straight ahead; anomalies are what it did not expect.

Cost        1 to 2 minutes on 2 CPU cores (estimate); 0.13 M parameters
Run         almanac train video_anomaly/digits_prediction
"""

from experiments.video_anomaly.configs.base import base


def get_config():
    return base(
        model=dict(name="predictor"),
        optim=dict(name="adam", peak_lr=2e-3, warmup="50 steps"),
        num_steps="10 epochs",
        log_every=100,
        eval_every="5 epochs",
        save_every="5 epochs",
    )
