"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import AUGMENT


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # digits, mnist, fashion_mnist, tfds:NAME, files, arrays
                path=None,  # files: a folder a class or a CSV; arrays: a .npz or a folder of .npy
                size=None,  # files, tfds: pixels, or (Y, X)
                channels=None,  # files, tfds: 1 or 3
                data_dir=None,  # tfds: where it was prepared
                valid_fraction=None,  # default 0.1, or the last 5,000 of MNIST's; 0 trains on all
                test_fraction=None,  # files, arrays: default 0.1
                batch_size=128,  # over all devices, B
                eval_batch_size=512,
            ),
            model=dict(
                name="convnet",  # convnet, lenet5, mlp, resnet; the keys below are theirs, None their default
                channels=None,
                kernel=None,
                hidden=None,
                pool=None,
                pad=None,
                input_dropout=None,
                dropout=None,
                depth=None,
                form=None,
                shortcut=None,
                zero_init=None,
            ),
            augment=AUGMENT,
            best=dict(metric="valid/accuracy", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
