"""The tests' DETR: seconds on a CPU.

Run         almanac train detection/tiny_detr
"""

from experiments.detection.configs.base import base


def get_config():
    return base(
        data=dict(size=32, batch_size=16, eval_batch_size=100),
        model=dict(
            name="detr", widths=(8, 16), levels=1, width=16, num_heads=2, mlp_width=32,
            encoder_layers=1, decoder_layers=2, queries=8,
        ),
        optim=dict(peak_lr=3e-3, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )  # fmt: skip
