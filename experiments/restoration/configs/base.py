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
                **{
                    **IMAGES,
                    "source": "photographs",
                },  # photographs, with size: pixels a side, by default 32; or as IMAGES has it
                batch_size=16,  # over all devices, B
                eval_batch_size=64,
            ),
            damage=dict(
                name="downscale",  # or mask, a square in the middle
                size=4,  # downscale: the factor; mask: pixels a side
            ),
            model=model_keys.fields("experiments.restoration.model.Restorer"),
            features=None,  # of which network the distance from the originals is: classifier, efficientnet_lite0, random
            loss=dict(name="l1"),  # of the hidden pixels: l1, l2
            best=dict(metric="valid/psnr", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
