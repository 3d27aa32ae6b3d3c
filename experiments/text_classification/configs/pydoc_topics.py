"""Of which chapter of Python's reference is a paragraph? A BiLSTM with attention on 1,162 of them; nothing to download.

Cost        about 1 minute on 2 CPU cores; 0.4 M parameters
Run         almanac train text_classification/pydoc_topics
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="pydoc", normalise="joulin", min_count=2, length=96, buckets=3, batch_size=32),
        model=dict(name="recurrent", width=64, hidden=64, embedding_scale=0.25, dropout=0.5),
        optim=dict(peak_lr=4e-3, warmup="1 epoch", clip_norm=1.0),
        num_steps="12 epochs",
        log_every=10,
    )
