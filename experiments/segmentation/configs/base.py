"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # discs, isbi_em, camvid, files
                path=None,  # files: a folder with folders images and masks
                masks=None,  # files: what a mask's numbers are, "classes" (the default) or "objects"
                size=None,  # digits, discs: pixels of the canvas, 32 and 64; files: pixels, or (Y, X), that all are scaled to
                channels=None,  # files: 1 or 3, by default 3
                classes=None,  # files: names of the masks' numbers
                valid_fraction=None,  # files: default 0.1
                test_fraction=None,  # files: default 0.1
                border=0.0,  # the greatest weight that a pixel between two objects has more than others; 0: none
                border_sigma=5.0,  # its standard deviation, in pixels
                balance=False,  # weigh pixels so that each class counts the same
                batch_size=16,  # over all devices, B
                eval_batch_size=16,
            ),
            augment=dict(
                elastic=0.0,  # standard deviation of an elastic deformation, in pixels
                crop=0,  # pixels a side of the square that a step sees of a picture; 0: all
                flip=0.0,  # probability of a left-right flip
                flip_vertical=0.0,
                transpose=0.0,  # of rows and columns: with both flips all eight ways to lay a square
            ),
            model=model_keys.fields("research.models.vision.unet.UNet"),
            loss=dict(dice=0.0),  # coefficient of the Dice loss beside the cross-entropy
            objects=None,  # the class whose regions are measured as objects
            markers=None,  # probability that an object grows from, by a watershed; None: each region is an object
            tile=0,  # pixels a side of the tiles that a picture is predicted by; 0: whole
            best=dict(metric="valid/mean_iou", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
