"""The report of a store: quantiles by NumPy, alarms where requests changed, and the reason where drift cannot be told."""

import json

import numpy as np
import pytest

from research.serving.monitor import calibration, store, summary
from research.serving.monitor.detector import STRIDE
from research.serving.monitor.reference import Reference
from research.serving.monitor.store import Store
from research.serving.monitor.tables import Answer, Model, Request
from tests.serving.monitor.test_detector import rows

CHANGE = 600  # requests before the shift


@pytest.fixture(scope="module", autouse=True)
def few_streams():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary.calibration, "calibrate", lambda detector: CALIBRATE(detector, streams=50))
        yield


CALIBRATE = calibration.calibrate


def fill(folder, reference, names=None):
    """1,200 answers, a second each, of which those from CHANGE on are of another kind."""
    parts = [rows(CHANGE, 1), rows(1_200 - CHANGE, 2, 3.0)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in sorted(parts[0])}
    blobs = np.concatenate(list(found.values()), 1).astype("<f4")
    made = Store(folder)
    made.add_model(Model("m", "1", {name: x.shape[1] for name, x in found.items()}, reference))
    made.add(
        [Request(str(i), float(i), "/v1/predict", 200 if i else 500, i / 1000) for i in range(1_200)],
        [Answer(str(i), 0, float(i), "m", "1", queue=i / 1e4, signals=x.tobytes()) for i, x in enumerate(blobs)],
    )
    made.add_server("here", 1.0, 5 << 20, 0)
    made.add_server("here", 2.0, 3 << 20, 4)
    return store.merged([folder])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return summary.summary(fill(tmp_path_factory.mktemp("store"), Reference(rows(400, 0)).to_bytes()))


def test_traffic_errors_latency_and_memory(found):
    assert found["requests"] == 1_200 and (found["first"], found["last"]) == (0, 1_199)
    by_status = {each["status"]: each for each in found["routes"]}
    assert by_status[500]["requests"] == 1
    assert by_status[200]["seconds"]["p95"] == pytest.approx(np.quantile(np.arange(1, 1_200) / 1000, 0.95))
    assert found["models"][0]["queue"]["median"] == pytest.approx(np.median(np.arange(1_200)) / 1e4)
    assert found["servers"] == [{"server": "here", "memory_mb": 3, "peak_mb": 5, "dropped": 4}]


def test_an_alarm_begins_where_requests_changed_and_stands(found):
    (model,) = found["models"]
    (alarm,) = model["alarms"]
    assert CHANGE < alarm["request"] <= CHANGE + 4 * STRIDE
    assert alarm["time"] == alarm["request"] - 1 and alarm["stands"]
    assert {"image brightness", "image projection"} <= alarm["signals"].keys()


def test_it_is_json(found):
    again = json.loads(json.dumps(found, allow_nan=False))
    assert len(again["models"][0]["drift"]) == 3 * 3  # signals, windows


def test_without_a_reference_it_says_so(tmp_path):
    (model,) = summary.summary(fill(tmp_path, None))["models"]
    assert model["drift"] is None and "no reference" in model["note"]


def test_a_reference_of_other_signals_is_not_compared(tmp_path):
    other = Reference({"confidence": np.random.default_rng(0).random((60, 1)).astype(np.float32)})
    (model,) = summary.summary(fill(tmp_path, other.to_bytes()))["models"]
    assert model["drift"] is None and "other signals" in model["note"]


def test_an_empty_store_has_a_summary(tmp_path):
    Store(tmp_path)
    assert summary.summary(store.merged([tmp_path]))["requests"] == 0
