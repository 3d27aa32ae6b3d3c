"""BERT-Tiny's shape on Python's language reference, pieces learnt from it: nothing to download.

Cost        10 minutes on one CPU core; 0.57 M parameters
Run         almanac train bert/pydoc
"""

from experiments.bert.configs.base import base


def get_config():
    return base(
        data=dict(vocab_size=1_024, length=64, batch_size=32),
        optim=dict(
            peak_lr=2e-3, schedule="linear", warmup="200 steps", weight_decay=0.01, b2=0.98, eps=1e-6, clip_norm=1.0
        ),
        num_steps=4_000,
    )
