"""diffusion/mnist on Fashion-MNIST: ten kinds of clothes in the place of digits.

Cost        half an hour on one H200 (estimate: it has not been run); 6.5 M parameters
Run         almanac train diffusion/fashion_mnist
"""

from experiments.diffusion.configs import mnist


def get_config():
    return mnist.get_config(source="fashion_mnist")
