"""Sums by GRPO: 1 for a right one of the policy's own samples, 0 for a wrong one; no pair and no demonstration is seen.

Cost        3 minutes on one CPU core; 0.6 M parameters
Run         almanac train preference/sums_grpo --init-from runs/preference/sums_sft
A wrong reward, the length: --config.grpo.reward=length
"""

from experiments.preference.configs.base import base


def get_config():
    return base(
        method="grpo",
        data=dict(batch_size=32),
        optim=dict(peak_lr=1e-4, schedule="constant", warmup="20 steps", clip_norm=1.0),
        num_steps=300,
        log_every=20,
        eval_every=50,
        save_every=100,
    )
