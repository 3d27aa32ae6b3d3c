import numpy as np
import pytest

from research.data.pipeline import TrainBatches
from research.data.synthetic.regression import Prompts, Ramp, draw, held_out
from research.util.errors import UserError


def prompts(**changes):
    how = {"dims": Ramp(2, 5, 1, 10), "points": Ramp(3, 8, 2, 10), "noise": 0.5, "batch_size": 6, "seed": 0}
    return Prompts(**how | changes)


def test_the_curriculum_by_hand():
    """Garg et al.: 5 dimensions and 11 points at first, one and two more every 2,000 steps, up to 20 and 41."""
    dims, points = Ramp(5, 20, 1, 2000), Ramp(11, 41, 2, 2000)
    assert [dims.at(step) for step in (0, 1999, 2000, 4001, 29_999, 30_000, 500_000)] == [5, 5, 6, 7, 19, 20, 20]
    assert [points.at(step) for step in (0, 1999, 2000, 4001, 29_999, 30_000, 500_000)] == [11, 11, 13, 15, 39, 41, 41]


def test_a_step_sees_what_the_curriculum_has_come_to():
    stream = TrainBatches(prompts(), 6, 0)
    for step, dims, points in ((0, 2, 3), (9, 2, 3), (10, 3, 5), (25, 4, 7), (30, 5, 8), (1_000, 5, 8)):
        batch = stream.batch(step)
        assert batch["x"].shape == (6, 8, 5) and batch["x"].dtype == np.float32
        assert (batch["x"][..., :dims] != 0).all() and (batch["x"][..., dims:] == 0).all()
        np.testing.assert_array_equal(batch["point_mask"], np.tile(np.arange(8) < points, (6, 1)))


def test_a_batch_is_a_function_of_seed_and_step():
    stream = TrainBatches(prompts(), 6, 0)
    whole = stream.batch(7)
    for name, rows in TrainBatches(prompts(), 6, 0).batch(7, slice(2, 5)).items():
        np.testing.assert_array_equal(rows, whole[name][2:5])
    others = [stream.batch(8), TrainBatches(prompts(seed=1), 6, 1).batch(7), held_out(prompts(), 6)]
    assert not any(np.isin(other["y"], whole["y"]).any() for other in others)
    assert len(np.unique(whole["y"])) == whole["y"].size  # no prompt twice


def test_the_distribution():
    drawn = draw(np.random.default_rng(0), 4_000, 6, 3, 0.5, 3)
    x, noise = drawn["x"].astype(np.float64), drawn["y"] - drawn["clean"].astype(np.float64)
    assert x.mean() == pytest.approx(0, abs=0.02) and x.std() == pytest.approx(1, abs=0.02)
    assert noise.std() == pytest.approx(0.5, abs=0.02)
    w = np.linalg.lstsq(x[0], drawn["clean"][0], rcond=None)[0]
    np.testing.assert_allclose(x[0] @ w, drawn["clean"][0], atol=1e-5)  # one linear function a prompt
    assert (drawn["clean"] ** 2).mean() == pytest.approx(3, abs=0.2)  # |w|^2 of N(0, I) in 3 dimensions
    silent = held_out(prompts(noise=0.0), 5)
    np.testing.assert_array_equal(silent["y"], silent["clean"])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"dims": Ramp(6, 5, 1, 10)}, "data.dims_start = 6: from 1 to data.dims = 5"),
        ({"points": Ramp(0, 5, 1, 10)}, "data.points_start = 0"),
        ({"points": Ramp(1, 5, 0, 10)}, "data.points_by = 0"),
        ({"noise": -1.0}, "data.noise = -1.0: at least 0"),
    ],
)
def test_bad_settings(changes, words):
    with pytest.raises(UserError, match=words):
        prompts(**changes)
    with pytest.raises(UserError, match="data.eval_size = 0"):
        held_out(prompts(), 0)
