"""Multi30k one way, small: what `multi30k_many`, both ways in one model, is compared with. Internal: no published number.

The size, batches, rate and vocabulary are multi30k_many's, and half its updates: as many of each direction.

Cost        about 4 minutes on half a CPU core; 0.6 M parameters
Run         almanac train translation/multi30k_one
            almanac train translation/multi30k_one --workdir runs/de_en --config.data.pair=de-en
"""

from experiments.translation.configs.base import base


def get_config():
    return base(
        data=dict(
            source="multi30k", pair="en-de", tokenizer="bpe", vocab_size=2_000, length=64, tokens=1024, buckets=4,
            bucket_step=2,
        ),
        model=dict(width=96, mlp_width=256),
        optim=dict(peak_lr=3e-3, warmup="200 steps", clip_norm=1.0),
        num_steps=400,
        eval_every=400,
        save_every=50,
        scores=("bleu",),
        average=dict(last=3),
    )  # fmt: skip
