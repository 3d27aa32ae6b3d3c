"""BiDAF on generated fact sheets: the quick default, nothing to download, and it may say that there is no answer.

Generated English from a small grammar: it shows the machinery at work and compares with no published number.

Cost        about 3 minutes on 2 CPU cores; 0.2 M parameters
Run         almanac train question_answering/generated
"""

from experiments.question_answering.configs.base import base


def get_config():
    return base(
        data=dict(
            length=96, stride=48, question_length=16, word_length=10, char_min_count=1, min_count=30, lowercase=True,
            negatives=0.5, batch_size=32,
        ),
        model=dict(width=32, words=32, char_width=8, filters=32, null=True, match=True, dropout=0.1),
        optim=dict(peak_lr=5e-3, end_lr=5e-4, warmup=50, clip_norm=5.0),
        num_steps=800,
    )  # fmt: skip
