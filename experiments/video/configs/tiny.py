"""The contract's network of clips: seconds on a CPU.

Run         almanac train video/tiny
"""

from experiments.video.configs.base import base


def get_config():
    return base(
        data=dict(size=8, length=6, count=64, frames=4, stride=1, views=2, batch_size=16, eval_batch_size=256),
        model=dict(widths=(8,)),
        optim=dict(peak_lr=2e-2, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
