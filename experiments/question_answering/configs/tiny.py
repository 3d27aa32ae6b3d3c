"""The contract's reader: seconds on a CPU.

Run         almanac train question_answering/tiny
"""

from experiments.question_answering.configs.base import base


def get_config():
    return base(
        data=dict(
            passages=40, length=64, stride=32, question_length=14, word_length=8, char_min_count=1, lowercase=True,
            negatives=0.2, batch_size=8, eval_batch_size=16,
        ),
        model=dict(width=8, words=8, char_width=4, filters=8, null=True, dropout=0.1),
        optim=dict(peak_lr=2e-2, warmup=2, clip_norm=5.0),
        num_steps=12,
        log_every=4,
        eval_every=6,
        save_every=3,
    )  # fmt: skip
