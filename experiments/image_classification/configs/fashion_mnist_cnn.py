"""The small convolutional network on Fashion-MNIST, best checkpoint by validation, stopped when that stands still.

Cost        6 minutes on 2 CPU cores; 0.82 M parameters
Run         almanac train image_classification/fashion_mnist_cnn
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="fashion_mnist", batch_size=128),
        augment=dict(flip=0.5),
        optim=dict(peak_lr=1e-3, warmup="1 epoch", weight_decay=1e-2),
        num_steps="20 epochs",
        best=dict(metric="valid/accuracy", mode="max", patience="4 epochs"),
    )
