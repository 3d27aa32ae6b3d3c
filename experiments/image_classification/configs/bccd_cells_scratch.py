"""bccd_cells_efficientnet's twin: the same network and steps from random values.

Cost        3 minutes a seed on 2 CPU cores; 3.4 M parameters
Run         almanac reproduce image_classification/bccd_cells_scratch
"""

from experiments.image_classification.configs.bccd_cells_efficientnet import recipe


def get_config():
    return recipe("from random values")
