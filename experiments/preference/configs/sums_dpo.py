"""Sums by DPO: pairs of a right and a wrong one, from the policy that imitated demonstrations of which half are wrong.

Cost        1 minute on one CPU core; 0.6 M parameters
Run         almanac train preference/sums_dpo --init-from runs/preference/sums_sft
"""

from experiments.preference.configs.base import base


def get_config():
    return base(
        optim=dict(peak_lr=1e-4, schedule="constant", warmup="20 steps", clip_norm=1.0),
        num_steps=300,
        log_every=20,
        eval_every=50,
        save_every=100,
    )
