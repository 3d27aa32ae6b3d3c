"""Sums by imitation of demonstrations, half of which are wrong: where reward and preference start from.

Cost        3 minutes on one CPU core; 0.6 M parameters
Run         almanac train preference/sums_sft
"""

from experiments.preference.configs.base import base


def get_config():
    return base(
        method="sft",
        optim=dict(peak_lr=1e-3, warmup="100 steps", end_lr=1e-4, clip_norm=1.0),
        num_steps=3_500,
        log_every=100,
        eval_every=500,
        save_every=1_000,
        best=dict(metric=None),
    )
