"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import IMAGES
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                **IMAGES,
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
            score_samples=None,  # True: at the end, by the features of a classifier
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
