"""The tests' SSD: seconds on a CPU.

Run         almanac train detection/tiny_ssd
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        data=dict(size=32, batch_size=16, eval_batch_size=100),
        model=dict(name="ssd", widths=(8, 16), levels=1, smallest=0.3, largest=0.6, ratios=(2.0,)),
        found=dict(keep=20),
        optim=dict(peak_lr=1e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
