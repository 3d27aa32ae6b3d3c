"""The contract's BERT: seconds on a CPU.

Run         almanac train bert/tiny
"""

from experiments.bert.configs.base import base


def get_config():
    return base(
        data=dict(vocab_size=320, length=24, batch_size=8),
        model=dict(width=32),
        optim=dict(peak_lr=1e-2, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
