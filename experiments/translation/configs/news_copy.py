"""Titles of news from their descriptions, by a pointer-generator: a piece is said from the vocabulary or copied from the source.

See et al. 2017 (1704.04368) over a transformer; 15,121 pairs of AG News, without markup or repetitions. Internal: no published
number at this size. `--config.model.copy=False` is the same network without the pointer.

Cost        30 minutes, one CPU core; 1.0 M parameters
Run         almanac train translation/news_copy
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(
            source="ag_news_summaries", pair="description-title", tokenizer="bpe", vocab_size=3_000, length=96,
            target_length=32, tokens=2048, buckets=2, bucket_step=8,
        ),
        model=dict(copy=True, width=128, mlp_width=256),
        optim=dict(peak_lr=3e-3, warmup="200 steps", clip_norm=1.0),
        num_steps=8_000,
        eval_every=1_000,
        save_every=100,
        keep=5,
        best=dict(metric="valid/rougeL", mode="max", patience=None),
        scores=("rouge",),
        translate=dict(beam=4, ratio=0.0, more=32),
        average=dict(last=5),
    )  # fmt: skip
