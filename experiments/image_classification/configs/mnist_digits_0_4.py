"""Keras's transfer example, first half: its small network on MNIST's digits 0 to 4.

Reproduces  keras examples/mnist_transfer_cnn.py: test accuracy 99.8 % after 5 epochs
Cost        8 minutes a seed on 2 CPU cores beside other work; 0.60 M parameters
Run         almanac reproduce image_classification/mnist_digits_0_4

The source trains on all 30,596 pictures of these digits and reports the last epoch's test accuracy; so does this. Its initial
values are Glorot's uniform ones, ours LeCun's normal. mnist_digits_5_9 starts with the weights of this run.
"""

from experiments.image_classification.configs.base import base


def recipe(classes, value, low, high, cost, freeze="", **pretrained):
    return base(
        data=dict(source="mnist", classes=classes, batch_size=128, eval_batch_size=500, valid_fraction=0.0),
        model=dict(
            name="convnet", channels=(32, 32), padding="VALID", first_pool=False, pool="max", hidden=128,
            conv_dropout=0.25, dropout=0.5,
        ),
        optim=dict(name="adadelta", b2=0.95, eps=1e-7, peak_lr=1.0, schedule="constant", freeze=freeze),
        num_steps="5 epochs",
        best=dict(metric=None),
        pretrained=pretrained,
        reproduces=dict(
            paper="keras examples/mnist_transfer_cnn.py", table="docstring", metric="test/accuracy", select="last",
            value=value, low=low, high=high, seeds=5, cost=cost,
        ),
    )  # fmt: skip


def get_config():
    return recipe((0, 1, 2, 3, 4), 0.998, 0.996, 0.999, "8 min a seed, 2 CPU cores beside other work")
