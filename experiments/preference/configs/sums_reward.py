"""A reward model of sums: which of two is the right one?

Cost        2 minutes on one CPU core; 0.6 M parameters
Run         almanac train preference/sums_reward --init-from runs/preference/sums_sft --config.pretrained.into=gpt \\
                --config.pretrained.fresh=^head/
"""

from experiments.preference.configs.base import base


def get_config():
    return base(
        method="reward",
        optim=dict(peak_lr=3e-4, warmup="50 steps", end_lr=3e-5, clip_norm=1.0),
        num_steps=1_000,
        log_every=50,
        eval_every=100,
        save_every=500,
        best=dict(metric="valid/pair_accuracy"),
    )
