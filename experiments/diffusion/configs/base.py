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
                batch_size=64,  # over all devices, B
                eval_batch_size=256,
            ),
            model=model_keys.fields("experiments.diffusion.model.UNet"),
            diffusion=dict(
                times=1_000,  # T
                schedule="linear",  # of the noise: linear, cosine
                predicts="noise",  # or picture, velocity
                min_snr=None,  # limit of the signal-to-noise ratios that weigh the error; None: all errors weigh the same
            ),
            drop_class=0.1,  # probability that a training picture's class is left out
            sample=dict(
                steps=50,  # from noise to picture, of at most T
                eta=0.0,  # 0: DDIM; 1: DDPM, which with steps = T is the paper's sampler
                guidance=0.0,  # (1 + guidance) conditional - guidance unconditional; 0: the conditional model
                measured=True,  # the distance of samples from held-out pictures, at the end
            ),
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
