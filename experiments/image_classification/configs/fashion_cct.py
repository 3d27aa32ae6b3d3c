"""CCT-2/3x2 on Fashion-MNIST: fashion_vit_lite's recipe with a convolutional tokenizer, two layers and sequence pooling.

Hassani 2021 (2104.05704), table 2, has about 94 %. That figure is not checked against the paper, so that ours is measured and
not judged.

Cost        needs a GPU: 4e15 FLOP a seed, about 5 minutes on one H200 (estimated); 0.28 M parameters
Run         almanac reproduce image_classification/fashion_cct
"""

from experiments.image_classification.configs import fashion_vit_lite


def get_config():
    return fashion_vit_lite.get_config(
        model={},
        value=None,
        low=None,
        high=None,
        row="Fashion-MNIST, CCT-2/3x2",
        cost="5 min a seed, one H200 (estimate)",
    )
