"""A small U-Net that finds discs which touch, each an object: by a watershed from the pixels that are most surely a disc's.

Cost        about 2 minutes on a CPU core; 0.03 M parameters
Run         almanac train segmentation/discs
"""

from experiments.segmentation.configs.base import base


def get_config():
    return base(
        data=dict(source="discs", border=5.0, border_sigma=2.0),
        augment=dict(flip=0.5, flip_vertical=0.5, transpose=0.5),
        model=dict(widths=(8, 16, 32)),
        objects="object",
        markers=0.7,
        optim=dict(peak_lr=1e-2, warmup="20 steps"),
        num_steps="30 epochs",
        log_every=50,
        eval_every="10 epochs",
        save_every="10 epochs",
        best=dict(metric="valid/mean_ap", mode="max"),
    )
