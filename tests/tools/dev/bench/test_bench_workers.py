"""The benchmark's processes: their environment, and how a failure is said."""

import pytest

from research.util.errors import UserError
from tools.dev.bench import bench_cases, bench_measure, bench_workers


def test_our_tunable_is_set_for_us_and_taken_away_from_pytorch_as_installed():
    tunables = bench_workers.tunables
    assert tunables("", ours=True) == "glibc.malloc.hugetlb=1"
    assert tunables("glibc.malloc.check=1", ours=True) == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    assert tunables("glibc.malloc.hugetlb=1:glibc.malloc.check=1", ours=False) == "glibc.malloc.check=1"
    assert tunables("glibc.malloc.hugetlb=1", ours=True) == "glibc.malloc.hugetlb=1"


def test_which_columns_run_with_our_allocator(monkeypatch):
    monkeypatch.delenv("ALMANAC_CPU_TUNING", raising=False)
    kept = [kind for kind in bench_workers.TITLES if bench_workers.keeps_memory(kind)]
    assert kept == ["ours", "eager-alloc", "compile-alloc", "generate-ours"]
    monkeypatch.setenv("ALMANAC_CPU_TUNING", "off")
    assert not any(map(bench_workers.keeps_memory, bench_workers.TITLES))


def test_without_our_allocator_no_column_has_it():
    assert bench_measure.columns(bench_workers.AGAINST, True) == list(bench_workers.AGAINST)
    assert bench_measure.columns(bench_workers.AGAINST, False) == ["eager", "compile"]


def test_a_process_that_fails_is_told_by_its_last_word(tmp_path):
    bench_cases.prepare(bench_cases.Case("language_model/pydoc_char"), tmp_path, ["dtype=int8"], 1)
    with pytest.raises(UserError, match="the compute dtype is"):
        bench_measure.agree(tmp_path, [], 1)


class Said:
    """A process that has an answer ready."""

    def __init__(self, answer):
        self.answer = answer

    def ask(self, *words):
        return self.answer


def test_a_round_has_the_steps_that_fill_it():
    assert bench_measure._steps_in(Said({"ms": [99.0, 100.0, 900.0]}), 2.0, 3) == 20
    assert bench_measure._steps_in(Said({"ms": [5_000.0]}), 2.0, 3) == 3
    assert bench_measure._steps_in(Said({"ms": [0.1]}), 2.0, 3) == 200
