"""Diffusion of scikit-learn's 8 x 8 digits, with their classes: nothing to download.

Cost        3 minutes on 2 idle CPU cores (estimate); 0.65 M parameters
Run         almanac train diffusion/digits
"""

from experiments.diffusion.configs.base import base


def get_config():
    return base(
        model=dict(channels=16, multipliers=(1, 2, 4), blocks=1, attention=(1,), dropout=0.0),
        diffusion=dict(schedule="cosine", predicts="velocity"),
        optim=dict(name="adam", peak_lr=2e-3, schedule="cosine", warmup=100, clip_norm=1.0, ema=0.995),
        num_steps="80 epochs",
        log_every=100,
        eval_every="20 epochs",
        save_every="10 epochs",
    )
