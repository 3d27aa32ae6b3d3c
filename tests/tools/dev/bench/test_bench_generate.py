"""Generation beside transformers: nothing is timed before both say the same."""

import pytest

from research.util.errors import UserError
from tools.dev.bench import bench_crowd, bench_generate
from tools.dev.bench.bench_measure import Plan


def test_the_first_difference_is_named():
    bench_generate._require_equal({"ours": [[1, 2], [3, 4]], "theirs": [[1, 2], [3, 4]]}, 2)
    with pytest.raises(UserError, match="of 2 rows, number 1 differs from transformers' at its new token 1"):
        bench_generate._require_equal({"ours": [[1, 2], [3, 4]], "theirs": [[1, 2], [3, 5]]}, 2)
    with pytest.raises(UserError, match="number 0 differs .* at its new token 2"):
        bench_generate._require_equal({"ours": [[1, 2]], "theirs": [[1, 2, 3]]}, 1)


@pytest.mark.slow
@pytest.mark.parity
def test_transformers_says_the_same_tokens(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(bench_generate, "BATCHES", (1, 3))
    monkeypatch.setattr(bench_generate, "PROMPT", 5)
    monkeypatch.setattr(bench_generate, "NEW", 7)
    plan = Plan(["eager"], 1, None, 1, bench_crowd.cores())
    small = ["model.num_layers=2", "model.num_heads=2", "model.width=32", "data.length=16"]
    found = bench_generate.measure(plan, small)
    assert [batch["batch"] for batch in found["batches"]] == [1, 3]
    for batch in found["batches"]:
        assert batch["frameworks"].keys() == {"generate-ours", "generate-transformers"}
        assert all(len(column["s"]) == 1 for column in batch["frameworks"].values())
