"""Few alarms on fresh stationary data, and one soon after a shift. docs/monitoring.md has the measurement at full size."""

import itertools

import numpy as np
import pytest

from research.serving.monitor import calibration
from research.serving.monitor.detector import STRIDE, Detector
from research.serving.monitor.reference import Reference
from tests.serving.monitor.test_detector import rows


@pytest.fixture(scope="module")
def calibrated():
    detector = Detector(Reference(rows(400, 0)))
    return detector, calibration.calibrate(detector, streams=199)


def test_fresh_requests_of_the_same_kind_raise_no_alarm(calibrated):
    """At the promised rate, 1 of 100 streams, more than 2 of 20 have a chance below 1 in 900."""
    detector, limits = calibrated
    streams = [detector.statistics(detector.encode(rows(calibration.REQUESTS, 100 + i))) for i in range(20)]
    assert sum(bool((each > limits).any()) for each in streams) <= 2


def test_a_shift_is_seen(calibrated):
    detector, limits = calibrated
    before, after = rows(1_000, 7), rows(500, 8, 2.0)
    stream = {name: np.concatenate([before[name], after[name]]) for name in before}
    alarms = (detector.statistics(detector.encode(stream)) > limits).any((1, 2))
    assert not alarms[: 1_000 // STRIDE].any()
    assert alarms[1_000 // STRIDE :][: 100 // STRIDE].any()


def test_the_limits_are_of_the_family(calibrated):
    """The share of the simulated streams themselves that have any alarm is below the target's, over all signals and windows."""
    detector, limits = calibrated
    again = itertools.islice(calibration.stationary(detector, np.random.default_rng(0)), 199)
    assert np.mean([(each > limits).any() for each in again]) <= calibration.TARGET + 1 / 199


def test_the_same_seed_gives_the_same_limits(calibrated):
    detector, _ = calibrated
    first, second = (calibration.calibrate(detector, streams=5, seed=3) for _ in range(2))
    assert np.array_equal(first, second)
