"""The same question put to a bag of words and bigrams, hashed into 4,096 places.

Cost        seconds on 2 CPU cores; 0.1 M parameters
Run         almanac train text_classification/pydoc_ngrams
"""

from experiments.text_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="pydoc", normalise="joulin", length=96, batch_size=32),
        model=dict(name="ngrams", width=16, order=2, buckets=4096),
        optim=dict(peak_lr=2e-2),
        num_steps="20 epochs",
        log_every=20,
        eval_every="2 epochs",
        save_every="5 epochs",
    )
