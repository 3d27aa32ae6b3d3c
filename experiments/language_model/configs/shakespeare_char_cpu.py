"""GPT on Tiny Shakespeare, characters: nanoGPT's CPU recipe.

Reproduces  karpathy/nanoGPT README, "I only have a macbook": validation loss 1.88
Cost        3 minutes a seed on 2 CPU cores; 0.8 M parameters
Run         almanac reproduce language_model/shakespeare_char_cpu

The published figure is an estimate from 20 random batches; ours is over the whole validation text.
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="tiny_shakespeare", tokenizer="char", length=64, batch_size=12),
        model=dict(num_layers=4, num_heads=4, width=128, dropout=0.0),
        optim=dict(peak_lr=1e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        num_steps=2_000,
        reproduces=dict(
            paper="nanoGPT README", table="CPU recipe", metric="valid/loss", select="last",
            value=1.88, low=1.87, high=1.94, seeds=5, cost="3 min a seed, 2 CPU cores",
        ),
    )  # fmt: skip
