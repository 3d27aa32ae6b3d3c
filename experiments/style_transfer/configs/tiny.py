"""The contract's style transfer: seconds on a CPU.

Run         almanac train style_transfer/tiny
"""

from experiments.style_transfer.configs.base import base


def get_config():
    return base(
        data=dict(size=16),
        style=dict(size=8),
        model=dict(width=4, blocks=1, kernel=3),
        optim=dict(name="sgd", peak_lr=0.03, schedule="constant"),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
