"""EfficientNet-Lite0 of ImageNet on a small folder of pictures: 817 cells of BCCD's blood smears, 64 x 64, three classes.

Its twin from random values is bccd_cells_scratch: the two tell what the weights gain. Nobody publishes these numbers.

Cost        3 minutes a seed on 2 CPU cores; 3.4 M parameters
Run         almanac reproduce image_classification/bccd_cells_efficientnet
"""

from experiments.image_classification.configs.base import base

PUBLISHED = dict(weights="efficientnet_lite0", fresh="^head/")


def recipe(begins, **pretrained):
    return base(
        data=dict(source="tfds:bccd_cells", size=64, batch_size=32, eval_batch_size=64),
        model=dict(name="efficientnet", drop_path=0.0),
        augment=dict(flip=0.5, mean=127 / 255, std=128 / 255),
        optim=dict(peak_lr=1e-3, warmup="0.5 epochs", weight_decay=1e-4),
        num_steps="5 epochs",
        log_every=5,
        pretrained=pretrained,
        reproduces=dict(
            paper=f"no published number; {begins}", metric="test/accuracy", select="max:valid/accuracy", seeds=5,
            cost="3 min a seed, 2 CPU cores",
        ),
    )  # fmt: skip


def get_config():
    return recipe("from ImageNet's weights", **PUBLISHED)
