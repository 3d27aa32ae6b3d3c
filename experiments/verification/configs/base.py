"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # omniglot1, omniglot2, or any source of image_classification
                path=None,  # files: a folder a class or a CSV; arrays: a .npz or a folder of .npy
                size=None,  # files, tfds: pixels, or (Y, X)
                channels=None,  # files, tfds: 1 or 3
                data_dir=None,  # tfds: where it was prepared
                valid_classes=0.2,  # share of the classes to choose a threshold with
                test_classes=0.3,  # and of those to test with; none of either is trained on
                batch_size=64,  # over all devices, B
                per_class=4,  # pictures of each class in a batch
                eval_batch_size=256,
            ),
            model=model_keys.fields("experiments.verification.model.Embedder"),
            loss=dict(
                name="triplet",  # or arcface
                margin=0.2,  # triplet: of distances; arcface: radians
                scale=16.0,  # arcface: of the cosines
            ),
            shift=0,  # pixels by which a training picture is moved, at most
            best=dict(metric="valid/equal_error", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
