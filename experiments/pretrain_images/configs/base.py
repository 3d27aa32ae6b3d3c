"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import AUGMENT, IMAGES
from research.nn import model_keys

MODELS = {  # model.name -> the module whose fields are its keys
    "simclr": "experiments.pretrain_images.simclr.SimCLR",
    "mae": "experiments.pretrain_images.mae.MaskedAutoencoder",
}
OF_LABELS = ("mixup", "cutmix", "smoothing", "views")  # options of the augmentation that mean nothing here


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                **IMAGES,
                batch_size=128,  # over all devices, B
                eval_batch_size=256,
            ),
            model=model_keys.of_model(MODELS, changes, "simclr"),
            augment={key: value for key, value in AUGMENT.items() if key not in OF_LABELS},
            probe=dict(
                examples=10_000,  # labelled training pictures, at most, that probes are fitted on
                neighbours=20,  # that vote
            ),
        ),
        **changes,
    )
