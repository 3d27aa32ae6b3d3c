"""Other processes' share of the cores, from the kernel's counters."""

import multiprocessing
import os
import sys
import time

import pytest

from tools.dev.bench import bench_crowd

STAT = """cpu  600 0 0 900 0 0 0 0 0 0
cpu0 100 10 20 500 30 4 5 6 7 8
cpu1 200 0 0 400 0 0 0 0 0 0
cpu11 300 0 0 0 0 0 0 0 0 0
intr 123 4
"""


def test_a_core_is_busy_by_what_is_not_idle_or_waiting(monkeypatch):
    monkeypatch.setattr(bench_crowd, "_TICK", 100)
    # user 100, nice 10, system 20, irq 4, softirq 5, steal 6; guests (7, 8) are in user
    assert bench_crowd._busy(STAT, [0]) == pytest.approx(1.45)
    assert bench_crowd._busy(STAT, [0, 1]) == pytest.approx(3.45)  # and not cpu11


def test_our_own_time_is_not_another_process():
    before = bench_crowd.Reading(clock=10.0, busy=100.0, own=5.0)
    after = bench_crowd.Reading(clock=12.0, busy=103.0, own=7.0)
    assert bench_crowd.others(before, after, 2) == pytest.approx(0.25)  # 3 - 2 of 4 core seconds
    assert bench_crowd.others(before, bench_crowd.Reading(12.0, 101.0, 7.0), 2) == 0.0
    assert bench_crowd.others(None, after, 2) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_beside_us_is_seen_unless_it_is_ours():
    on = bench_crowd.cores()
    beside = multiprocessing.get_context("fork").Process(target=_spin, daemon=True)
    beside.start()
    try:
        before = bench_crowd.read(on), bench_crowd.read(on, [beside.pid])
        used = time.process_time()
        while bench_crowd._used(beside.pid) < 0.5:
            time.sleep(0.05)
        after = bench_crowd.read(on), bench_crowd.read(on, [beside.pid])
        assert time.process_time() - used < 0.5
    finally:
        beside.kill()
    alone, counted = (bench_crowd.others(*pair, len(on)) for pair in zip(before, after, strict=True))
    assert alone > counted  # the rest is what this machine's other processes use
    seconds = (after[0].clock - before[0].clock) * len(on)
    assert (alone - counted) * seconds == pytest.approx(after[1].own - before[1].own, abs=0.2)


def _spin():
    os.nice(0)
    while True:
        pass
