"""A small convolutional network on USPS digits, 16 x 16, with shifts by a pixel.

Published beside it (test error): 1-nearest-neighbour 5.6 %, LeCun 1989 5.0 %, people 2.5 %. No paper has this recipe.

Cost        2 minutes a seed on 2 CPU cores; 0.28 M parameters
Run         almanac train image_classification/usps_cnn
"""

from experiments.image_classification.configs.base import base


def get_config():
    return base(
        data=dict(source="usps", batch_size=64),
        augment=dict(crop=1, smoothing=0.1),
        optim=dict(peak_lr=2e-3, warmup="1 epoch", weight_decay=1e-2),
        num_steps="30 epochs",
        eval_every="3 epochs",
        save_every="3 epochs",
    )
