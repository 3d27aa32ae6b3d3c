"""The contract's segmenter: seconds on a CPU.

Run         almanac train segmentation/tiny
"""

from experiments.segmentation.configs.base import base


def get_config():
    return base(
        data=dict(size=16, balance=True, eval_batch_size=56),
        augment=dict(flip=0.5),
        model=dict(widths=(4, 8), up="resize"),
        loss=dict(dice=1.0),
        optim=dict(peak_lr=3e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
