"""Blood cells by SSD, from scratch: BCCD's own parts, on canvases of 192 pixels. No published number is known to us.

Cost        13 minutes a seed on 2 shared CPU cores; 0.37 M parameters
Run         almanac train detection/bccd_ssd
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        data=dict(source="bccd", size=192, batch_size=8, eval_batch_size=32),
        model=dict(name="ssd", widths=(16, 32, 64, 128), smallest=0.08, largest=0.6, ratios=(2.0,)),
        augment=dict(flip=0.5, flip_vertical=0.5, scale=0.3, shift=0.1, jitter=0.2),
        optim=dict(peak_lr=2e-3, end_lr=2e-5, schedule="cosine", warmup="100 steps", weight_decay=1e-4, clip_norm=10.0),
        num_steps="100 epochs",
        log_every="5 epochs",
        eval_every="10 epochs",
        save_every="10 epochs",
    )
