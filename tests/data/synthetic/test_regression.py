import numpy as np
import pytest

from research.data.pipeline import TrainBatches
from research.data.synthetic import regression_baselines
from research.data.synthetic.regression import InContextRegression, Prompts, Ramp, draw, held_out
from research.util.errors import UserError


def prompts(**changes):
    how = {"dims": Ramp(2, 5, 1, 10), "points": Ramp(3, 8, 2, 10), "noise": 0.5, "batch_size": 6, "seed": 0}
    return Prompts(**how | changes)


CONFIG = {
    "dims": 3, "dims_start": 2, "dims_by": 1, "dims_every": 2, "points": 8, "points_start": 4, "points_by": 1,
    "points_every": 3, "noise": 0.1, "batch_size": 8, "eval_size": 40, "eval_batch_size": 16,
}  # fmt: skip


def test_the_data_set():
    data = InContextRegression(CONFIG, 0)
    assert {k: s.shape for k, s in data.train.spec.items()} == {"x": (8, 8, 3), "y": (8, 8), "point_mask": (8, 8)}
    assert [int(data.train.batch(step)["point_mask"].sum()) for step in (0, 2, 3)] == [32, 32, 40]
    assert data.evals["valid"].batch(2)["mask"].sum() == 8  # 40 prompts in batches of 16
    assert (data.codec.inputs["x"], data.codec.constraints) == ((("b", "n", 3), "float32"), ["n <= 8"])
    assert data.codec.inputs.keys() == {"x", "y"} and not data.report


def test_the_errors_of_the_baselines_are_against_y_without_its_noise():
    data = InContextRegression(CONFIG, 0)
    assert "errors" not in vars(data)  # not computed before they are wanted
    assert list(data.errors) == ["least squares", "ridge", "averaging", "3 nearest", "always 0"]
    assert all(errors.shape == (8,) for errors in data.errors.values())
    assert data.errors["ridge"][7] < 0.02 < data.errors["averaging"][7]  # noise 0.1: its square is 0.01
    clean = data.held_out["clean"].astype(np.float64)
    np.testing.assert_allclose(data.errors["always 0"], (clean**2).mean(0), rtol=1e-6)
    predicted = regression_baselines.averaging(data.held_out["x"], data.held_out["y"])
    np.testing.assert_allclose(data.errors["averaging"], ((predicted - clean) ** 2).mean(0), rtol=1e-6)
    means = data.baselines()["valid/error"].values
    assert list(means) == ["ridge", "averaging", "3 nearest", "always 0"]
    assert means["always 0"] == pytest.approx((clean**2).mean(), rel=1e-6)
    assert "ridge" not in InContextRegression(CONFIG | {"noise": 0.0}, 0).errors  # its penalty would be 0


def test_a_table_and_a_prediction(tmp_path):
    data = InContextRegression(CONFIG, 0)
    (tmp_path / "examples.csv").write_text("1,0,0,2\n0,1,0.5,\n")
    inputs = data.codec.encode(data.codec.read(tmp_path / "examples.csv"))
    np.testing.assert_array_equal(inputs["x"], [[[1, 0, 0], [0, 1, 0.5]]])
    np.testing.assert_array_equal(inputs["y"], [[2, 0]])
    assert data.codec.decode({"y": np.array([[7.0, 1.23456]])}) == {"y": 1.2346}
    with pytest.raises(UserError, match="the table is 1 x 3: want 1 to 8 lines of 3 numbers and y"):
        data.codec.encode([[1, 2, 3]])
    with pytest.raises(UserError, match="only the last line's y"):
        data.codec.encode([[1, 2, 3, np.nan], [1, 2, 3, 4]])


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
