"""Requests of mixed lengths: both columns say the same tokens, each request its own number."""

import pytest

from research.util.errors import UserError
from tools.dev.bench import bench_serve


def test_lengths_are_mixed_and_fit_the_window():
    requests = bench_serve.mixed(200)
    assert all(4 <= prompt <= 64 and 8 <= length <= 160 for prompt, length in requests)
    lengths = sorted(length for _, length in requests)
    assert lengths[0] < 12 and lengths[-1] > 140 and 25 < lengths[100] < 50  # log-uniform: the median is sqrt(8 * 160)


def test_bad_numbers_are_named():
    with pytest.raises(UserError, match="--requests"):
        bench_serve.main(["--requests", "0"])


def test_a_table_has_medians_and_quantiles():
    results = {
        "parameters": 1000, "generated": 99, "others": 0.25, "bandwidth": 4e6,
        "speeds": {"generate-ours": {1: [10.0, 30.0, 20.0], 8: [50.0]}},
        "first": {"generate-ours": {1: [0.002] * 9 + [0.1], 8: [0.003]}},
        "between": {"generate-ours": {1: [0.004], 8: [0.005]}},
    }  # fmt: skip
    lines = bench_serve.table(results).splitlines()
    assert "memory bound: 1,000 steps/s" in lines[0]
    assert lines[3].split()[3:] == ["1", "20", "(10", "to", "30)", "2.0", "55.9", "4.0", "4.0"]  # 2 + 0.55 * 98
    assert "25% of the cores' time" in lines[-1]


@pytest.mark.slow
@pytest.mark.parity
def test_the_server_and_transformers_say_the_same_tokens(monkeypatch):
    pytest.importorskip("transformers")
    small = ["model.num_layers=2", "model.num_heads=2", "model.width=32"]
    found = bench_serve.measure(requests=9, rounds=1, threads=1, against=True, changes=small)
    assert found["generated"] == sum(length for _, length in bench_serve.mixed(9))
    assert found["speeds"].keys() == {"generate-ours", "generate-transformers"}
