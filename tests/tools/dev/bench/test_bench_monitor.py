"""The page has the measured numbers, and delays are counted from the shift."""

from pathlib import Path

import numpy as np

from research.serving.monitor.detector import STRIDE, WINDOWS
from research.util.files import read_json
from tools.dev.bench import bench_monitor

ROOT = Path(__file__).resolve().parents[4]


def test_the_page_has_the_committed_results():
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    page = text[text.index("<!-- monitor -->") + 16 : text.index("<!-- /monitor -->")]
    assert page.strip() == bench_monitor.table(read_json(bench_monitor.RESULTS))


def test_the_promise_is_kept_by_what_was_measured():
    for case in read_json(bench_monitor.RESULTS):
        assert case["total"] >= 500
        assert case["alarms"]["monitor"] / case["total"] <= 0.01
        assert case["alarms"]["always"] == case["total"]


def test_a_delay_is_counted_from_the_shift_and_by_window():
    alarms = np.zeros(((bench_monitor.BEFORE + bench_monitor.AFTER) // STRIDE, len(WINDOWS), 2), bool)
    alarms[3, 0, 1] = True  # before the shift: a false alarm, and no detection
    alarms[bench_monitor.BEFORE // STRIDE, 1, 0] = True
    alarms[bench_monitor.BEFORE // STRIDE + 4, 2, 1] = True
    assert bench_monitor._delays(alarms) == [STRIDE, None, STRIDE, 5 * STRIDE]


def test_replaced_texts_have_as_many_tokens():
    inputs = {"tokens": np.ones((2, 5), np.int32), "length": np.array([2, 4], np.int32)}
    found = bench_monitor._replaced(np.array([7, 8, 9], np.int32))(inputs)
    assert found["tokens"].tolist() == [[7, 8, 0, 0, 0], [9, 7, 8, 9, 0]]
    assert found["length"].tolist() == [2, 4]
