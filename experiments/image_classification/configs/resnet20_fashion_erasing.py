"""ResNet-20 on Fashion-MNIST with random erasing.

Reproduces  Zhong 2020 (1708.04896), Fashion-MNIST, ResNet-20 + RE: test error 4.02 % (accuracy 0.9598)
Cost        8 hours on 2 CPU cores, about 8 minutes on one H200 (both estimated); 0.27 M parameters
Run         almanac reproduce image_classification/resnet20_fashion_erasing
"""

from experiments.image_classification.configs import resnet20_fashion


def get_config():
    return resnet20_fashion.get_config(erase=0.5, value=0.9598, low=0.9573, high=0.9623)
