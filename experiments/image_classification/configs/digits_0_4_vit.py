"""A small ViT on the digits 0 to 4 of scikit-learn's 8 x 8 digits: the network that digits_5_9_lora adapts.

Cost        half a minute on 2 CPU cores; 0.15 M parameters
Run         almanac train image_classification/digits_0_4_vit
"""

from experiments.image_classification.configs.base import base


def recipe(classes, **changes):
    return base(
        data=dict(classes=classes, batch_size=32),
        model=dict(name="vit", patch=2, width=64, num_layers=3, num_heads=4, pool="mean"),
        **changes,
    )


def get_config():
    return recipe(
        (0, 1, 2, 3, 4),
        optim=dict(peak_lr=2e-3, warmup="1 epoch", weight_decay=1e-2),
        num_steps="20 epochs",
        eval_every="5 epochs",
        save_every="20 epochs",
    )
