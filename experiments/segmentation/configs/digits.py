"""A small U-Net that finds scikit-learn's digits on a noisy canvas: 11 classes.

Cost        about 2 minutes on 2 CPU cores; 0.03 M parameters
Run         almanac train segmentation/digits
"""

from experiments.segmentation.configs.base import base


def get_config():
    return base(
        data=dict(size=32, balance=True),
        model=dict(widths=(8, 16, 32)),
        loss=dict(dice=1.0),
        optim=dict(peak_lr=1e-2, warmup="20 steps"),
        num_steps="20 epochs",
        log_every=50,
        eval_every="4 epochs",
        save_every="4 epochs",
    )
