"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # digits, mnist, or any other source of image_classification with square pictures
                path=None,  # files: a folder a class or a CSV; arrays: a .npz or a folder of .npy
                size=None,  # files, tfds: pixels
                channels=None,  # files, tfds: 1 or 3
                data_dir=None,  # tfds: where it was prepared
                valid_fraction=None,  # default 0.1, or the last 5,000 of MNIST's
                test_fraction=None,  # files, arrays: default 0.1
                scene="pair",  # tasks left and right; or boxed: tasks digit and box
                canvas=12,  # pixels of a scene's side
                sides=(8, 8),  # of a picture on it, in pixels: the smallest and the largest
                batch_size=64,  # over all devices, B
                eval_batch_size=512,
            ),
            tasks=None,  # those to learn, such as ("left",); None is all
            weights=dict(
                name="fixed",  # uncertainty, pcgrad, mgda
                values=None,  # fixed: one for each task; None is 1
            ),
            model=model_keys.fields("research.models.vision.convnet.ConvNet"),
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
