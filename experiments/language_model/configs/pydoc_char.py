"""GPT on Python's language reference, characters: the main job, nothing to download.

Cost        about 3 minutes on 2 CPU cores; 0.8 M parameters
Run         almanac train
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="pydoc", tokenizer="char", length=64, batch_size=16),
        model=dict(num_layers=4, num_heads=4, width=128, positions="rotary"),
        optim=dict(peak_lr=3e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=3_000,
    )
