"""One of MNIST's digits somewhere on a picture, in a drawn size: which it is, and its box.

Internal    the pictures are drawn anew each epoch by the run's seed; no published number is claimed
Cost        half a minute on 2 CPU cores (estimate); 0.06 M parameters
Run         almanac train multi_task/mnist_boxed
"""

from experiments.multi_task.configs.mnist_pair import recipe


def get_config():
    return recipe(scene="boxed", canvas=24, sides=(10, 20))
