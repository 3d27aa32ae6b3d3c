"""Numbers in digits to English words: synthetic pairs made by a rule, nothing to download.

Cost        about 2 minutes on 2 CPU cores; 0.3 M parameters
Run         almanac train translation/numbers
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(pair="digits-words", tokens=1024),
        model=dict(width=64, mlp_width=128),
        optim=dict(peak_lr=3e-3, warmup="200 steps", clip_norm=1.0),
        num_steps=1_000,
        save_every=50,
        keep=5,
        average=dict(last=3),
    )
