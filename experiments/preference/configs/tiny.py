"""The contract's preferences: seconds on a CPU.

Run         almanac train preference/tiny
"""

from experiments.preference.configs.base import base


def get_config():
    return base(
        data=dict(digits=1, eval_size=20, batch_size=16, eval_batch_size=16),
        model=dict(num_layers=1, num_heads=2, width=32),
        optim=dict(peak_lr=3e-3, warmup=2),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
