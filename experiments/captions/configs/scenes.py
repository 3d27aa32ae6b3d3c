"""Captions of generated scenes, and answers to questions about them, by one network.

Cost        18 minutes on 2 CPU cores that others used, 11 at the fastest rate that was seen; 0.45 M parameters
Run         almanac train captions/scenes
"""

from experiments.captions.configs.base import base


def get_config(**model):
    return base(
        model=dict(width=96, mlp_width=192, pre_norm=True, **model),
        optim=dict(peak_lr=2e-3, warmup="100 steps", clip_norm=1.0),
        num_steps=3_000,
        eval_every=1_000,
        save_every=250,
    )
