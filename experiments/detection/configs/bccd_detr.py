"""Blood cells by DETR, from scratch: BCCD's own parts, on canvases of 192 pixels. Not trained yet.

Cost        2 hours a seed on 2 CPU cores (estimate); 1.2 M parameters
Run         almanac train detection/bccd_detr
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        data=dict(source="bccd", size=192, batch_size=8, eval_batch_size=32),
        model=dict(name="detr", queries=60),
        augment=dict(flip=0.5, flip_vertical=0.5, scale=0.3, shift=0.1, jitter=0.2),
        optim=dict(peak_lr=5e-4, end_lr=5e-6, schedule="cosine", warmup="100 steps", weight_decay=1e-4, clip_norm=1.0),
        num_steps="300 epochs",
        log_every="5 epochs",
        eval_every="20 epochs",
        save_every="20 epochs",
    )
