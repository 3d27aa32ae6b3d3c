"""A small convolutional network on scikit-learn's 8 x 8 digits: nothing to download.

Cost        half a minute on 2 CPU cores; 87,178 parameters
Run         almanac train image_classification/digits
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(batch_size=64),
        optim=dict(peak_lr=2e-3, warmup="1 epoch", weight_decay=1e-2),
        num_steps="40 epochs",
        eval_every="4 epochs",
        save_every="4 epochs",
    )
