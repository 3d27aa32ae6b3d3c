"""EfficientNet-Lite0 of ImageNet on a small folder of pictures: 817 cells of BCCD's blood smears, 32 x 32, three classes.

The norms stay as ImageNet left them, so that so few steps need not learn their statistics. Its twin from random values is
bccd_cells_scratch: the two tell what the weights gain. Nobody publishes these numbers. What the weights tell without any
training is bccd_cells_probe's.

Cost        1 minute a seed on 2 CPU cores, after a minute of compiling; 3.4 M parameters
Run         almanac reproduce image_classification/bccd_cells_efficientnet
"""

from experiments.image_classification.configs.base import base

PUBLISHED = dict(weights="efficientnet_lite0", fresh="^head/")


def recipe(begins, freeze="", momentum=0.99, steps="2 epochs", probe=None, **pretrained):
    judged = dict(
        paper=f"no published number; {begins}", select="max:valid/accuracy", seeds=5, cost="1 min a seed, 2 CPU cores"
    )
    return base(
        data=dict(source="tfds:bccd_cells", size=32, batch_size=32, eval_batch_size=128),
        model=dict(name="efficientnet", drop_path=0.0, momentum=momentum),
        augment=dict(flip=0.5, mean=127 / 255, std=128 / 255),
        optim=dict(peak_lr=1e-3, warmup=0 if probe else "0.5 epochs", weight_decay=1e-4, freeze=freeze),
        num_steps=steps,
        log_every=13,
        macro_f1=True,
        probe=probe,
        pretrained=pretrained,
        reproduces=None if probe else tuple(judged | dict(metric=f"test/{name}") for name in ("accuracy", "macro_f1")),
    )  # fmt: skip


def get_config():
    return recipe("from ImageNet's weights", freeze="norm/", **PUBLISHED)
