"""The 2D-grid's moments and determinism."""

import numpy as np

from research.data.synthetic import mixtures
from research.evals.generative import mode_coverage


def grid(seed=0, pack=1, num_examples=20_000):
    centres, std = mixtures.GRID_CENTRES, mixtures.GRID_STD
    return mixtures.mixture(centres, std, num_examples, seed, pack)["x"]


def test_centres_are_five_by_five():
    assert {tuple(c) for c in mixtures.GRID_CENTRES} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}


def test_grid_is_the_published_mixture():
    x = grid()
    assert x.shape == (20_000, 2) and x.dtype == np.float32
    nearest = 2 * np.rint(x / 2)
    assert np.abs(x - nearest).max() < 0.3
    np.testing.assert_allclose((x - nearest).std(0), 0.05, rtol=0.03)
    shares = np.unique(nearest, axis=0, return_counts=True)[1] / len(x)
    np.testing.assert_allclose(shares, np.full(25, 1 / 25), atol=0.006)
    # Within 3 sd in two dimensions: 1 - exp(-9 / 2).
    assert abs(mode_coverage(x, mixtures.GRID_CENTRES, 0.05)["high_quality"] - 0.98889) < 0.003


def test_packs_are_independent_draws_of_one_set_of_points():
    x = grid(pack=2)
    assert x.shape == (20_000, 4)
    points = {tuple(p) for p in x[:, :2]} | {tuple(p) for p in x[:, 2:]}
    # 40,000 draws with replacement from 20,000 points see 1 - e^-2 of them.
    assert abs(len(points) / 20_000 - (1 - np.exp(-2))) < 0.01
    assert abs(np.corrcoef(x[:, 0], x[:, 2])[0, 1]) < 0.03


def test_pure_in_the_seed():
    np.testing.assert_array_equal(grid(seed=3), grid(seed=3))
    assert not np.array_equal(grid(seed=3), grid(seed=4))
