"""Digits on a canvas: a smoke test.

Cost        two minutes on 2 CPU cores
Run         almanac train detection/digits
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        model=dict(widths=(16, 32, 64), levels=2, neck=32, bins=8),
        augment=dict(shift=0.1, scale=0.2),
        optim=dict(peak_lr=3e-3, end_lr=1e-5, schedule="cosine", warmup="20 steps"),
        num_steps=800,
        log_every=50,
        eval_every=200,
        save_every=200,
    )
