"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.data.defaults import IMAGES
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            stage="autoencoder",  # or prior, over the codes of the autoencoder that pretrained.weights (--init-from) names
            data=dict(
                **IMAGES,
                batch_size=64,  # over all devices, B
                eval_batch_size=256,
            ),
            model=model_keys.fields("experiments.vq_vae.model.VQVAE"),
            prior=model_keys.fields("experiments.vq_vae.prior.GatedPixelCNN"),
            loss=dict(
                commitment=0.25,  # beta of equation 3
                decay=0.99,  # averages: of the codebook
                restart=0.1,  # averages: a code used less often a step becomes one of the encoder's outputs; 0: none does
            ),
            score_samples=False,  # prior: at the end, by the features of a classifier
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
