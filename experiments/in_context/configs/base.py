"""The family's defaults. An experiment is `base(group=dict(key=value), ...)`."""

from typing import Any

from ml_collections import ConfigDict

from research.core import config
from research.nn import model_keys


def base(**changes: Any) -> ConfigDict:
    return config.merge(
        config.family_defaults(
            data=dict(
                dims=5,  # of x, d; the curriculum starts with dims_start and adds dims_by after each dims_every
                dims_start=5,
                dims_by=1,
                dims_every="2000 steps",
                points=11,  # pairs (x, y) of a prompt, n; likewise
                points_start=11,
                points_by=2,
                points_every="2000 steps",
                noise=0.0,  # standard deviation of what is added to y
                batch_size=64,  # prompts a step over all devices
                eval_size=1_280,  # prompts kept for validation
                eval_batch_size=64,
            ),
            model=model_keys.fields("research.models.text.in_context.Regressor"),
            num_steps=20_000,
            log_every=100,
            eval_every=1_000,
            save_every=1_000,
            best=dict(metric=None, mode="min", patience=None),  # every prompt is new: the last is the best
        ),
        **changes,
    )
