"""The command: what it refuses, and what it measures when told to."""

import json

import pytest

from research.util.errors import UserError
from tools.dev import benchmark
from tools.dev.bench import bench_cases, bench_crowd, bench_peak, bench_steps


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["gtp"], "did you mean 'gpt'"),
        (["generat"], "did you mean 'generate'"),
        (["--rounds=0"], "--rounds=0: at least 1"),
        (["--against", "jax"], "--against=jax: some of eager, eager-alloc, compile, compile-alloc"),
        (["--threads=9999"], "may use"),
    ],
)
def test_bad_options_are_named(argv, words):
    with pytest.raises(UserError, match=words):
        benchmark.main([*argv, "--against=none"] if "--against" not in argv else argv)


def test_columns_come_in_one_order():
    assert benchmark._against("compile,eager") == ["eager", "compile"]
    assert benchmark._against("none") == []


def test_a_missing_package_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(benchmark, "_installed", lambda name: False)
    with pytest.raises(UserError, match=r"pip install '.\[bench\]', or use --against none"):
        benchmark.main(["gpt"])
    monkeypatch.setattr(benchmark, "_installed", lambda name: name == "torch")
    with pytest.raises(UserError, match="skip generate"):
        benchmark.main(["generate"])


def test_a_crowded_machine_is_refused_unless_it_is_told(monkeypatch, capsys):
    monkeypatch.setattr(bench_crowd, "sample", lambda cores: 0.42)
    with pytest.raises(UserError, match="other processes use 42% of the time of these .* or use --crowded"):
        benchmark.main(["gpt", "--against=none"])
    assert benchmark._check_idle([0, 1], crowded=True) == 0.42
    assert "not worth keeping" in capsys.readouterr().out
    monkeypatch.setattr(bench_crowd, "sample", lambda cores: 0.02)
    assert benchmark._check_idle([0, 1], crowded=False) == 0.02


def test_a_machine_names_its_file():
    assert benchmark.slug({"cpu": "AMD EPYC (TM)", "accelerator": None}, 2) == "amd-epyc-tm-2-threads"
    assert benchmark.slug({"cpu": "any", "accelerator": "NVIDIA H200"}, 2) == "nvidia-h200"


def test_a_step_stays_in_flight():
    done, order = iter(range(9)), []
    times = bench_steps.timed(lambda: next(done), order.append, 3)
    assert order == [0, 1, 2, 3, 4, 5]  # each waited for once, after the next one was sent off
    assert len(times) == 3
    done, order = iter(range(9)), []
    assert bench_steps.elapsed(lambda: next(done), order.append, 3) > 0
    assert order == [0, 1, 2]


def test_what_drops_is_set_to_zero():
    model = {"dropout": 0.1, "input_dropout": 0.2, "recurrent_dropout": 0.0, "width": 3}
    assert bench_steps.without_dropout(model) == {"dropout": 0.0, "input_dropout": 0.0}


def test_a_peak_is_the_quickest_product(monkeypatch):
    monkeypatch.setattr(bench_peak, "SECONDS", 0.6)
    # The beginning; twice: is it over, begin, end; and that it is over.
    ticks = iter([0.0, 0.0, 0.1, 0.4, 0.5, 0.5, 0.7, 3.0])
    monkeypatch.setattr(bench_peak.time, "perf_counter", lambda: next(ticks))
    assert bench_peak._fastest(lambda: None, 60) == pytest.approx(60 / 0.2)


@pytest.mark.slow
def test_a_case_from_end_to_end_without_pytorch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_peak, "measure", lambda threads, torch: {"float32": {"jax": 1e11}})
    monkeypatch.setattr(bench_crowd, "sample", lambda cores: 0.5)
    small = ["--config.model.num_layers=1", "--config.model.width=16", "--config.data.length=8"]
    out = tmp_path / "a.json"
    options = ["--against=none", "--rounds=2", "--steps=2", "--crowded", f"--out={out}"]
    assert benchmark.main(["gpt", *options, *small]) == 0
    result = json.loads(out.read_text())
    assert result["crowd"] == {"before": 0.5, "told": True}
    (case,) = result["cases"]
    assert len(case["frameworks"]["ours"]["ms"]) == 2 and len(case["checkpoint"]["call_ms"]) == 3
    assert case["frameworks"].keys() == {"ours"}
    assert "a checkpoint" in capsys.readouterr().out


def test_made_up_text_has_exactly_the_vocabulary_asked_for(tmp_path):
    from research.core import config
    from research.data.text import language_modelling, translation

    cfg = config.load("language_model/tiny", bench_cases.words(300, 4000, tmp_path))
    assert language_modelling.load(cfg.data, 0).tokenizer.size == 300
    cfg = config.load("translation/tiny", bench_cases.sentences(200, 400, (5, 9), tmp_path))
    data = translation.load(cfg.data, True, 0)
    assert data.target.size == 200
    assert data.parts["train"].lengths.max() == 10  # nine words and the end


def test_every_case_has_a_config_that_takes_its_overrides(tmp_path):
    from research.core import config

    for case in bench_cases.CASES.values():
        config.load(case.config, [*case.overrides, *case.cpu])
    assert set(bench_cases.GPU_ONLY).isdisjoint(bench_cases.DEFAULT)


def test_cases_that_were_not_measured_again_stay(tmp_path):
    """On the same machine with the same versions, each with its own commit; else none does."""
    common = {"machine": {"cpu": "any"}, "threads": 2, "python": "3.11", "versions": {"jax": "1"}, "generation": None}
    old = common | {
        "cases": [{"name": "convnet", "commit": "a"}, {"name": "gpt", "commit": "a"}],
        "generation": {"s": 1},
    }
    new = common | {"cases": [{"name": "gpt", "commit": "b"}]}
    path = tmp_path / "results.json"
    assert benchmark.merge_older(new, path) == new
    path.write_text(json.dumps(old))
    merged = benchmark.merge_older(new, path)
    assert [(case["name"], case["commit"]) for case in merged["cases"]] == [("gpt", "b"), ("convnet", "a")]
    assert merged["generation"] == {"s": 1}
    assert benchmark.merge_older(new | {"versions": {"jax": "2"}}, path)["cases"] == new["cases"]
