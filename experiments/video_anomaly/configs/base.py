"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import CLIPS
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "autoencoder": "experiments.video_anomaly.model.Autoencoder",
    "predictor": "experiments.video_anomaly.model.Predictor",
}


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                **CLIPS | {"source": "digits"},  # or files
                normal=None,  # files: the class that is trained on, by default "normal"
                frames=8,  # of a window, T
                batch_size=32,  # over all devices, B
                eval_batch_size=64,
            ),
            model=model_keys.of_model(MODELS, changes, "autoencoder"),
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
