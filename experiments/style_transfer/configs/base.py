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
                batch_size=8,  # over all devices, B
                eval_batch_size=32,
            ),
            style=dict(
                path=None,  # the picture whose style it is; None: scikit-learn's flower.jpg
                size=128,  # pixels of its shorter side
                features="random",  # the network that judges: random, efficientnet_lite0
            ),
            model=model_keys.fields("experiments.style_transfer.model.Stylist"),
            loss=dict(content=1.0, style=1.0, variation=0.0),  # coefficients
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
