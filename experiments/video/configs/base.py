"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import CLIPS
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                **CLIPS,
                frames=8,  # of a window that the network sees, T
                stride=2,  # from one of its frames to the next
                views=3,  # windows of a clip, evenly spaced, whose mean is predicted
                batch_size=32,  # over all devices, B
                eval_batch_size=64,
            ),
            model=model_keys.fields("experiments.video.model.VideoResNet"),
            best=dict(metric="valid/accuracy", mode="max", patience=None),  # patience: a duration
        ),
        **changes,
    )
