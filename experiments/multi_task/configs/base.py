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
                **IMAGES,  # of square pictures
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
