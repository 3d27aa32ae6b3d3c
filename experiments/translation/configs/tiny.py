"""The contract's translator: seconds on a CPU.

Run         almanac train translation/tiny
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(pair="digits-words", tokens=256, buckets=2, bucket_step=8),
        model=dict(encoder_layers=1, decoder_layers=1, num_heads=2, width=32, mlp_width=64),
        optim=dict(peak_lr=5e-3, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
        translate=dict(beam=2),
        average=dict(last=2),
    )
