"""Digits on a canvas by SSD: a smoke test.

Cost        3 minutes on 2 CPU cores beside other work; 0.12 M parameters
Run         almanac train detection/digits_ssd
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        model=dict(name="ssd", widths=(16, 32, 64), levels=2, smallest=0.12, largest=0.5, ratios=(2.0,)),
        augment=dict(shift=0.1, scale=0.2),
        optim=dict(peak_lr=3e-3, end_lr=1e-5, schedule="cosine", warmup="20 steps", clip_norm=10.0),
        num_steps=800,
        log_every=50,
        eval_every=200,
        save_every=200,
    )
