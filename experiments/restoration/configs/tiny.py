"""The contract's restoration: seconds on a CPU.

Run         almanac train restoration/tiny
"""

from experiments.restoration.configs.base import base


def get_config():
    return base(
        data=dict(size=16),
        model=dict(blocks=1),
        optim=dict(name="adam", peak_lr=3e-3, schedule="constant"),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
