"""EfficientNet-Lite0's embeddings of BCCD's cells as they are: a linear probe and prototypes, nothing trained.

One step with all of it frozen, and the split `probe` at its end.

Cost        1 minute on 2 CPU cores, most of it compiling
Run         almanac train image_classification/bccd_cells_probe
"""

from experiments.image_classification.configs.bccd_cells_efficientnet import efficientnet


def get_config():
    return efficientnet(1, dict(freeze="."), None, probe=(1, 5, 20))
