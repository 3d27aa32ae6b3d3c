"""The small convolutional network of `digits` on BCCD's cells from random values, ten epochs: beside bccd_cells_efficientnet.

Cost        half a minute a seed on 2 CPU cores; 1.1 M parameters
Run         almanac reproduce image_classification/bccd_cells_scratch
"""

from experiments.image_classification.configs.bccd_cells_efficientnet import recipe


def get_config():
    optim = dict(peak_lr=2e-3, warmup="1 epoch", weight_decay=1e-2)
    return recipe(dict(name="convnet"), "10 epochs", optim, "a small network from random values")
