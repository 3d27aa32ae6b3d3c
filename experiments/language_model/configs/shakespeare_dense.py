"""The dense GPT that `shakespeare_moe` is compared with, on Tiny Shakespeare.

Cost        about 1 minute on 2 CPU cores; 0.41 M parameters
Run         almanac train language_model/shakespeare_dense
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="tiny_shakespeare", tokenizer="char", length=64, batch_size=12),
        model=dict(num_layers=2, num_heads=4, width=128, mlp_width=512),
        optim=dict(peak_lr=1e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=2_000,
    )
