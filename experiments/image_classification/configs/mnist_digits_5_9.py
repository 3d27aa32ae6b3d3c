"""Keras's transfer example, second half: the network of the digits 0 to 4 learns 5 to 9 with its convolutions frozen.

Reproduces  keras examples/mnist_transfer_cnn.py: test accuracy 99.2 % after 5 epochs
Cost        1 minute a seed on 2 CPU cores, after the first half; 0.60 M parameters, of which 9,568 are frozen
Run         almanac reproduce image_classification/mnist_digits_0_4
            almanac reproduce image_classification/mnist_digits_5_9

Every seed begins with the weights of the first half's seed 0, the dense layers' too: the source has one network, whose output
for 0 becomes that for 5. Its optimiser begins anew.
"""

from experiments.image_classification.configs.mnist_digits_0_4 import recipe

FIRST_HALF = "runs/reproduce/image_classification/mnist_digits_0_4/seed_0"


def get_config():
    return recipe((5, 6, 7, 8, 9), 0.992, 0.989, 0.995, "1 min a seed, 2 CPU cores", "^conv", weights=FIRST_HALF)
