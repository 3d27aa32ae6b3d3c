"""A U-Net of a quarter of the paper's widths on the ISBI 2012 slices: 24 to train on, 3 to validate, 3 to test with.

Elastic deformation, all eight ways to lay a patch, and border weights, as in Ronneberger et al. 2015 (1505.04597).

Cost        6 minutes a seed on one CPU core; 1.9 M parameters
Run         almanac train segmentation/isbi_em
"""

from experiments.segmentation.configs.base import base


def get_config():
    return base(
        data=dict(source="isbi_em", border=10.0, batch_size=8, eval_batch_size=1),
        augment=dict(elastic=10.0, crop=96, flip=0.5, flip_vertical=0.5, transpose=0.5),
        model=dict(widths=(16, 32, 64, 128, 256)),
        objects="cell",
        optim=dict(peak_lr=2e-3, warmup="50 steps"),
        num_steps=450,
        log_every=50,
        eval_every=75,
        save_every=150,
    )
