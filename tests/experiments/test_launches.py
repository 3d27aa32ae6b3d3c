"""Several steps a launch, in families with a stateless model, a carried state, and two networks."""

import json

import jax
import numpy as np
import pytest

from research.core import config
from research.util.errors import UserError
from tools.verbs import train

FAMILIES = ("language_model/tiny", "language_model/tiny_lstm", "gan/tiny")


def run(name, folder, *overrides):
    changes = ["log_every=6", "save_every=6", "eval_every=12", *overrides]
    return train.trainer(name)(config.load(name, changes), folder)


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def arrays(state):
    return [np.asarray(x) for x in jax.tree.leaves((state.params, state.model_state))]


@pytest.mark.parametrize("name", FAMILIES)
def test_four_steps_a_launch_equal_single_ones(name, tmp_path):
    """Launches of 4 and 2 steps: the same log and parameters, within rounding."""
    single, launched = (run(name, tmp_path / f"{k}", f"steps_per_launch={k}") for k in (1, 4))
    for a, b in zip(log(tmp_path / "1"), log(tmp_path / "4"), strict=True):
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        assert b["values"] == pytest.approx(a["values"], rel=1e-4)
    for a, b in zip(arrays(single), arrays(launched), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_batches_of_several_shapes_cannot_share_a_launch(tmp_path):
    with pytest.raises(UserError, match="steps_per_launch = 4: the batches of this data have . shapes.*set it to None"):
        run("translation/tiny", tmp_path / "run", "steps_per_launch=4")
