"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys

TEXT_ALONE = ("source_vocab_size", "shared", "copy")  # of two languages, and of words that a source has


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                count=100_000,  # generated examples an epoch, half of them captions
                eval_count=2_000,  # of valid, test and novel each
                batch_size=32,  # over all devices, B
                eval_batch_size=250,
            ),
            model=dict(
                model_keys.fields("research.models.text.transformer.Transformer", without=TEXT_ALONE),
                **model_keys.fields("experiments.captions.model.Describer"),
            ),
            best=dict(metric="valid/loss", mode="min", patience=None),  # patience: a duration
        ),
        **changes,
    )
