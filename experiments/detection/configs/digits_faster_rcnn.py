"""Digits on a canvas by Faster R-CNN: a smoke test.

Cost        10 minutes on 2 CPU cores (estimate); 0.22 M parameters
Run         almanac train detection/digits_faster_rcnn
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        model=dict(name="faster_rcnn", widths=(16, 32, 64), levels=2, neck=32, anchor=3.0, proposals=48),
        augment=dict(shift=0.1, scale=0.2),
        optim=dict(peak_lr=2e-3, end_lr=1e-5, schedule="cosine", warmup="50 steps", clip_norm=10.0),
        num_steps=800,
        log_every=50,
        eval_every=200,
        save_every=200,
    )
