"""The statistics of a stream are those of its windows one by one."""

import numpy as np
import pytest
from scipy import stats

from research.serving.monitor import drift
from research.serving.monitor.detector import STRIDE, WINDOWS, Detector
from research.serving.monitor.reference import Reference


def rows(count, seed, move=0.0):
    rng = np.random.default_rng(seed)
    return {
        "image brightness": rng.normal(move, 1, (count, 1)).astype(np.float32),
        "class": np.eye(3, dtype=np.float32)[rng.integers(3, size=count)],
        "image projection": rng.normal(move, 1, (count, 4)).astype(np.float32),
    }


def test_windows_are_those_of_the_last_requests():
    reference, stream = rows(300, 0), rows(1_200, 1)
    detector = Detector(Reference(reference))
    found = detector.statistics(detector.encode(stream))
    assert found.shape == (1_200 // STRIDE, len(WINDOWS), 3)
    step, w = 30, WINDOWS.index(200)  # the 200 requests that end with the 775th
    window = {name: x[575:775] for name, x in stream.items()}
    values = dict(zip(detector.names, found[step, w], strict=True))
    expected = drift.psi(window["class"].sum(0), reference["class"].sum(0))
    assert values["class"] == pytest.approx(expected, abs=1e-8)
    at = drift.edges(reference["image brightness"][:, 0], 20)
    binned = [np.searchsorted(at, x["image brightness"][:, 0]) for x in (reference, window)]
    assert values["image brightness"] == pytest.approx(stats.ks_2samp(*binned).statistic, abs=1e-6)


def test_a_window_that_is_not_full_says_nothing():
    detector = Detector(Reference(rows(100, 0)))
    found = detector.statistics(detector.encode(rows(250, 1)))
    for w, window in enumerate(WINDOWS):
        full = np.arange(1, 11) * STRIDE >= window
        assert (np.isfinite(found[:, w]).all(-1) == full).all()


def test_a_row_unlike_the_reference_is_far_from_it():
    reference = rows(200, 0)
    detector = Detector(Reference(reference))
    novel = np.stack([detector.novel(np.random.default_rng(i)) for i in range(20)])
    part = detector.parts[detector.names.index("image brightness")]
    assert set(novel[:, part.columns].mean(1)) == {0.0, 1.0}  # above or below every edge


def test_a_constant_signal_of_the_reference_is_no_error():
    constant = {"tokens unknown": np.zeros((60, 1), np.float32), "x columns": np.ones((60, 2), np.float32)}
    detector = Detector(Reference(constant))
    assert np.isfinite(detector.statistics(detector.encode(constant))[1]).any()
