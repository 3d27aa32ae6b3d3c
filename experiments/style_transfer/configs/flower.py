"""Photographs in the style of one of a flower, judged by a network of random weights: nothing to download.

Cost        2 minutes, one CPU core; 0.28 M parameters
Run         almanac train style_transfer/flower
"""

from experiments.style_transfer.configs.base import base


def get_config(loss=None, **changes):
    return base(
        data=dict(size=64, batch_size=4, eval_batch_size=12),
        loss=loss or dict(style=2.0, variation=3.0),
        optim=dict(name="adam", peak_lr=2e-3, schedule="cosine", warmup=50, clip_norm=1.0),
        num_steps=800,
        log_every=50,
        eval_every=200,
        save_every=200,
        **changes,
    )
