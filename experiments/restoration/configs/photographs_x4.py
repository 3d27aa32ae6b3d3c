"""Super-resolution by four of photographs to 32 x 32 pixels, with EDSR's trunk: nothing to download.

Cost        half a minute on 2 idle CPU cores (estimate); 0.12 M parameters
Run         almanac train restoration/photographs_x4
"""

from experiments.restoration.configs.base import base


def get_config(**changes):
    return base(
        optim=dict(name="adam", peak_lr=1e-3, schedule="cosine", warmup=50, clip_norm=1.0, ema=0.99),
        num_steps=1_500,
        log_every=100,
        eval_every=250,
        save_every=250,
        **changes,
    )
