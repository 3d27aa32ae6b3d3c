"""Measures of samples from hand-made samples, closed forms and scipy."""

import numpy as np
import pytest

from research.evals import generative
from research.util.errors import UserError

CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])


def test_mode_coverage_by_hand():
    samples = np.array(
        [
            [0.0, 0.29],  # 2.9 sd from the first mode
            [0.0, 0.0],
            [0.1, -0.1],
            [2.0, 0.1],  # the second mode
            [2.0, 1.69],  # 3.1 sd from the fourth: nearest to it, but not good
            [0.22, 1.78],  # 2.2 sd on each axis, 3.11 in all: not good
            [50.0, 50.0],
            [1.0, 1.0],
        ]
    )
    got = generative.mode_coverage(samples, CENTRES, std=0.1)
    assert got["modes"] == 2
    assert got["high_quality"] == 4 / 8
    reverse_kl = 3 / 4 * np.log((3 / 4) / (1 / 4)) + 1 / 4 * np.log((1 / 4) / (1 / 4))
    assert got["reverse_kl"] == pytest.approx(reverse_kl)


def test_mode_coverage_at_its_ends():
    even = generative.mode_coverage(CENTRES, CENTRES, std=0.1)
    assert even == {"modes": 4, "high_quality": 1, "reverse_kl": pytest.approx(0, abs=1e-12)}
    one = generative.mode_coverage(np.repeat(CENTRES[:1], 5, 0), CENTRES, std=0.1)
    assert one["modes"] == 1 and one["reverse_kl"] == pytest.approx(np.log(4))
    none = generative.mode_coverage(CENTRES + 1, CENTRES, std=0.1)
    assert none["modes"] == none["high_quality"] == 0 and np.isnan(none["reverse_kl"])


def test_frechet_distance_in_closed_form():
    """Of commuting Gaussians: squared shift and squared differences of standard deviations."""
    mean_a, mean_b = np.array([0.0, 1.0]), np.array([3.0, 5.0])
    got = generative.frechet_distance(mean_a, np.diag([4.0, 9.0]), mean_b, np.diag([1.0, 16.0]))
    assert got == pytest.approx(3**2 + 4**2 + (2 - 1) ** 2 + (3 - 4) ** 2)


@pytest.mark.parametrize("rank", [6, 3])
def test_frechet_distance_agrees_with_scipy(rank):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(rank)
    a, b = rng.normal(size=(2, 6, rank))
    mean_a, mean_b, cov_a, cov_b = *rng.normal(size=(2, 6)), a @ a.T, b @ b.T
    # Off the singular edge for scipy, whose root of a singular product is only good to 1e-4 or so.
    jitter = 1e-9 * np.eye(6)
    cross = linalg.sqrtm((cov_a + jitter) @ (cov_b + jitter)).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * cross)
    got = generative.frechet_distance(mean_a, cov_a, mean_b, cov_b)
    assert got == pytest.approx(expected, rel=1e-4)
    assert generative.frechet_distance(mean_a, cov_a, mean_a, cov_a) == pytest.approx(0, abs=1e-6)


def test_moments_by_hand():
    mean, cov = generative.moments(np.array([[0, 0], [2, 0], [1, 3]], np.float32))
    np.testing.assert_allclose(mean, [1, 1])
    np.testing.assert_allclose(cov, [[1, 0], [0, 3]])
    assert generative.moments(np.array([[1.0], [3.0]]))[1].shape == (1, 1)
    with pytest.raises(UserError, match="got 1"):
        generative.moments(np.zeros((1, 3)))


def test_inception_score_at_its_ends():
    confident = np.tile(np.eye(10), (20, 1))
    assert generative.inception_score(confident, splits=10) == pytest.approx((10, 0))
    constant = np.tile([[0.7, 0.2, 0.1]], (50, 1))
    assert generative.inception_score(constant, splits=5) == pytest.approx((1, 0))


def test_inception_score_by_hand_and_by_split():
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    # First half: marginal (3/4, 1/4); KL ln(4/3), and ln(2/3)/2 + ln(2)/2. Second half: 1.
    first = np.exp((np.log(4 / 3) + (np.log(2 / 3) + np.log(2)) / 2) / 2)
    mean, std = generative.inception_score(p, splits=2)
    assert mean == pytest.approx((first + 1) / 2) and std == pytest.approx((first - 1) / 2)
    with pytest.raises(UserError, match="splits is 5"):
        generative.inception_score(p, splits=5)


def test_precision_and_recall_by_hand():
    """One neighbour. Real radii: 1 about 0, 1 and 2; 8 about 10. Generated ones: 1 about 1.5 and 2.5; 18.5 about 21."""
    real, generated = np.array([[0.0], [1.0], [2.0], [10.0]]), np.array([[1.5], [2.5], [21.0]])
    assert generative.precision_recall(real, generated, neighbours=1) == {"precision": 2 / 3, "recall": 3 / 4}


def test_precision_and_recall_of_equal_and_distant_sets():
    points = np.random.default_rng(0).normal(size=(50, 4))
    assert generative.precision_recall(points, points) == {"precision": 1, "recall": 1}
    assert generative.precision_recall(points, points + 100) == {"precision": 0, "recall": 0}
    collapsed = np.repeat(points[:1], 50, 0)
    assert generative.precision_recall(points, collapsed) == {"precision": 1, "recall": 1 / 50}
    with pytest.raises(UserError, match="3 points have no neighbour number 3"):
        generative.precision_recall(points[:3], points)


def test_precision_and_recall_are_the_formula_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(61, 3)), 0.8 * rng.normal(size=(90, 3)) + 0.3

    def covered(points, centres, k):
        own = np.sort(np.linalg.norm(centres[:, None] - centres, axis=-1), axis=1)[:, k]
        return (np.linalg.norm(points[:, None] - centres, axis=-1) <= own).any(1).mean()

    for block in (7, 1_000):
        monkeypatch.setattr(generative, "BLOCK", block)
        for k in (1, 3):
            got = generative.precision_recall(real, generated, k)
            assert got == {"precision": covered(generated, real, k), "recall": covered(real, generated, k)}
            assert 0 < got["recall"] < 1 and 0 < got["precision"] < 1
