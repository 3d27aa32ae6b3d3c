"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                source="digits",  # any source of image_classification
                path=None,  # files: a folder a class or a CSV; arrays: a .npz or a folder of .npy
                size=None,  # files, tfds: pixels, or (Y, X)
                channels=None,  # files, tfds: 1 or 3
                data_dir=None,  # tfds: where it was prepared
                valid_fraction=None,  # default 0.1, or the last 5,000 of MNIST's; 0 trains on all
                test_fraction=None,  # files, arrays: default 0.1
                binarise="resample",  # each pixel 1 with its grey value's probability, drawn each epoch; once; none
                batch_size=64,  # over all devices, B
                eval_batch_size=256,
            ),
            model=model_keys.fields("experiments.vae.model.VAE"),
            loss=dict(
                name="vae",  # or iwae, the bound of `samples` importance weights
                samples=1,  # of the code, a picture: K
                beta=1.0,  # vae: of the KL divergence
            ),
            likelihood=dict(
                samples=0,  # of the bound of log p(x) that is measured at the end; 0: none
                part="test",
            ),
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
