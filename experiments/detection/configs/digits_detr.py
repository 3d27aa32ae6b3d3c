"""Digits on a canvas by DETR: a smoke test.

Cost        10 minutes on 2 CPU cores (estimate); 0.51 M parameters
Run         almanac train detection/digits_detr
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        model=dict(name="detr", widths=(16, 32, 64), levels=2, queries=20, mlp_width=128),
        augment=dict(shift=0.1, scale=0.2),
        optim=dict(peak_lr=1e-3, end_lr=1e-5, schedule="cosine", warmup="50 steps", weight_decay=1e-4, clip_norm=1.0),
        num_steps=2_000,
        log_every=50,
        eval_every=500,
        save_every=500,
    )
