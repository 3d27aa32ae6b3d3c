"""Predictors from the pairs before, against scikit-learn fitted anew for every prompt and number of pairs."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor

from research.data.synthetic import regression_baselines

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 9, 4)), RNG.normal(size=(3, 9))


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (regression_baselines.least_squares, lambda i: LinearRegression(fit_intercept=False)),
        (lambda x, y: regression_baselines.ridge(x, y, 0.3), lambda i: Ridge(0.3, fit_intercept=False)),
        (regression_baselines.nearest_neighbours, lambda i: KNeighborsRegressor(min(3, i))),
        (lambda x, y: regression_baselines.nearest_neighbours(x, y, 1), lambda i: KNeighborsRegressor(1)),
    ],
    ids=["least squares", "ridge", "3 nearest", "nearest"],
)
def test_equals_scikit_learn(ours, theirs):
    got = ours(X, Y)
    assert got.shape == Y.shape and (got[:, 0] == 0).all()
    for row in range(3):
        for i in range(1, 9):
            fitted = theirs(i).fit(X[row, :i], Y[row, :i])
            assert got[row, i] == pytest.approx(fitted.predict(X[row, i : i + 1])[0], abs=1e-6), (row, i)


def test_averaging_by_hand():
    x, y = np.array([[[1.0, 0], [0, 2], [1, 1]]]), np.array([[3.0, 1, 0]])
    np.testing.assert_allclose(regression_baselines.averaging(x, y), [[0, 0, (3 * 1 + 1 * 2) / 2]])


def test_exact_functions_are_found_past_d():
    y = X @ np.arange(4.0)
    got = regression_baselines.least_squares(X, y)
    np.testing.assert_allclose(got[:, 4:], y[:, 4:], atol=1e-9)
    assert (np.abs(got - y)[:, 1:4].max(1) > 0.01).all()
