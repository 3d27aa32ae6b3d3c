"""The contract's describer: seconds on a CPU.

Run         almanac train captions/tiny
"""

from experiments.captions.configs.base import base


def get_config():
    return base(
        data=dict(count=160, eval_count=20, batch_size=16, eval_batch_size=16),
        model=dict(channels=(8, 8), encoder_layers=1, decoder_layers=1, num_heads=2, width=32, mlp_width=32),
        optim=dict(peak_lr=1e-2, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
