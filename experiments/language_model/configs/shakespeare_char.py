"""GPT on Tiny Shakespeare, characters: nanoGPT's GPU recipe. It overfits: the best checkpoint is the result.

Reproduces  karpathy/nanoGPT README: best validation loss 1.4697
Cost        about 3 minutes a seed on one H100 (a third of one was run); 10.7 M parameters
Run         almanac reproduce language_model/shakespeare_char
"""

from experiments.language_model.configs.base import base


def get_config():
    return base(
        data=dict(source="tiny_shakespeare", tokenizer="char", length=256, batch_size=64),
        model=dict(num_layers=6, num_heads=6, width=384, dropout=0.2),
        optim=dict(peak_lr=1e-3, end_lr=1e-4, warmup="100 steps", weight_decay=0.1, b2=0.99, clip_norm=1.0),
        dtype="bfloat16",
        num_steps=5_000,
        log_every=50,
        best=dict(metric="valid/loss", mode="min", patience=None),
        reproduces=dict(
            paper="nanoGPT README", table="GPU recipe", metric="valid/loss", select="min:valid/loss",
            value=1.4697, low=1.455, high=1.485, seeds=3, cost="3 min a seed, one H100 (estimate)",
        ),
    )  # fmt: skip
