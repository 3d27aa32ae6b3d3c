"""EfficientNet-Lite0 of ImageNet on a small folder of pictures: 817 cells of BCCD's blood smears, 32 x 32, three classes.

One epoch of 26 steps. The norms stay as ImageNet left them: so few steps would not bring their statistics along. What a network
reaches without the weights is bccd_cells_scratch's, what the weights tell without training bccd_cells_probe's. Nobody publishes
these numbers.

Cost        half a minute a seed on 2 CPU cores, after a minute of compiling; 3.4 M parameters
Run         almanac reproduce image_classification/bccd_cells_efficientnet
"""

from experiments.image_classification.configs.base import base

PUBLISHED = dict(weights="efficientnet_lite0", fresh="^head/")


def recipe(model, steps, optim, begins, augment=None, probe=None, **pretrained):
    """`begins` says what the numbers are of, and is None where none are to be reproduced."""
    judged = dict(
        paper=f"no published number; {begins}", select="max:valid/accuracy", seeds=5,
        cost="half a minute a seed, 2 CPU cores",
    )  # fmt: skip
    metrics = ("test/accuracy", "test/macro_f1") if begins else ()
    return base(
        data=dict(source="tfds:bccd_cells", size=32, batch_size=32, eval_batch_size=128),
        model=model,
        augment=dict(flip=0.5, **(augment or {})),
        optim=optim,
        num_steps=steps,
        log_every=13,
        macro_f1=True,
        probe=probe,
        pretrained=pretrained,
        reproduces=tuple(judged | dict(metric=metric) for metric in metrics) or None,
    )


def efficientnet(steps, optim, begins, **more):
    model, augment = dict(name="efficientnet", drop_path=0.0), dict(mean=127 / 255, std=128 / 255)
    return recipe(model, steps, optim, begins, augment, **more, **PUBLISHED)


def get_config():
    optim = dict(peak_lr=1e-3, warmup="0.5 epochs", weight_decay=1e-4, freeze="norm/")
    return efficientnet("1 epoch", optim, "EfficientNet-Lite0 from ImageNet's weights")
