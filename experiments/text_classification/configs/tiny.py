"""The contract's text classifier, a BiLSTM with attention: seconds on a CPU.

Run         almanac train text_classification/tiny
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(length=16, batch_size=16, normalise="joulin", vocab_size=512),
        model=dict(width=16, hidden=8, dropout=0.1),
        optim=dict(peak_lr=1e-2, warmup=2, clip_norm=1.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )
