"""The PyTorch twins train as ours do; the tables say what the JSON holds."""

import copy
import json

import numpy as np
import pytest

from research.core import config
from research.host.errors import UserError
from tools import bench_steps, benchmark

GPT = ("data.length=16", "data.batch_size=4", "model.num_layers=2", "model.width=32")
RESNET = benchmark.CASES["resnet20"].overrides
MNIST = "image_classification/mnist_cnn"
# name -> config, overrides, shape of random pictures; decays and norms so strong that losses show them
TWINS = {
    "gpt, adamw, decay": (
        "language_model/pydoc_char",
        (*GPT, "optim.warmup=0", "optim.weight_decay=50", "model.bias=true"),
        (),
    ),
    "convnet, momentum, clipping": (
        MNIST,
        ("data.batch_size=8", "optim.clip_norm=0.5", "optim.peak_lr=0.5"),
        (8, 12, 1),
    ),
    "convnet, adam, L2": (
        "image_classification/digits",
        ("optim.name=adam", "optim.warmup=0", "optim.weight_decay=10", "data.batch_size=8"),
        (),
    ),
    "resnet, nesterov": (
        MNIST,
        (*RESNET, "model.depth=8", "model.shortcut=pad", "data.batch_size=8", "optim.name=nesterov"),
        (8, 8, 1),
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize(("name", "overrides", "random"), TWINS.values(), ids=TWINS)
def test_a_twin_trains_as_ours_does(tmp_path, name, overrides, random):
    pytest.importorskip("torch")
    case = benchmark.Case(name, overrides, random=random)
    benchmark.prepare(case, tmp_path, [], threads=1)
    ours = bench_steps.Ours("ours", tmp_path).check()
    twin = bench_steps.Twin("eager", tmp_path).check()
    assert twin["parameters"] == ours["parameters"]
    assert len(ours["losses"]) == bench_steps.CHECKED
    # The first by the forward pass; the later ones by gradients and optimiser, too.
    np.testing.assert_allclose(twin["losses"], ours["losses"], atol=1e-4)
    assert np.ptp(ours["losses"]) > 1e-2  # so that these would show a step not taken


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("language_model/tiny", "model.positions=rotary", "positions = 'rotary' has no PyTorch"),
        ("language_model/tiny", "optim.ema=0.9", "optim.ema = 0.9 has no PyTorch twin"),
        ("image_classification/tiny", "data.batch_size=8", "augment.crop = 1 has no PyTorch twin"),
        ("image_classification/digits", "model.name=lenet5", "model.name = 'lenet5'"),
    ],
)
def test_what_no_twin_does_is_named(name, override, words):
    pytest.importorskip("torch")
    from tools import torch_twins

    batch = {"tokens" if name.startswith("language") else "image": np.zeros((1, 8, 8, 1))}
    with pytest.raises(UserError, match=words):
        torch_twins.make(config.plain(config.load(name, [override])), batch, {})


RESULT = {
    "machine": {"cpu": "Abacus 3", "cores": 2, "accelerator": None},
    "threads": 2,
    "versions": {"jax": "0.10.2", "torch": "2.13.0"},
    "measured": "2026-01-02 03:04 UTC",
    "commit": "abc1234",
    "tf32": False,
    "cases": [
        {
            "name": "gpt",
            "config": "language_model/pydoc_char",
            "steps": 20,
            "parameters": 1_250_000,
            "batch": [12, 64],
            "unit": "tokens",
            "units": 768,
            "dtype": "float32",
            "flops": 4_000_000_000,
            "peak": 1e12,
            "frameworks": {
                "ours": {
                    "ms": [20.0, 16.0, 40.0],
                    "wait_ms": [0.2, 0.1, 0.3],
                    "first_step_s": {"cold": 5.04, "warm": 2.0},
                    "rss": 400_000_000,
                    "device_memory": None,
                },
                "eager": {
                    "ms": [30.0, 32.0, 50.0],
                    "first_step_s": {"cold": 3.0, "warm": 2.5},
                    "rss": 300_000_000,
                    "device_memory": None,
                },
            },
        }
    ],
}


def test_a_row_is_the_median_of_rounds_and_ratios_are_round_by_round():
    ours, eager = (benchmark.row(RESULT["cases"][0], kind) for kind in ("ours", "eager"))
    assert ours.ms == (20.0, 16.0, 40.0)
    assert eager.ratio == (1.5, 1.25, 2.0)  # 30/20, 50/40, 32/16; not 32/20
    assert ours.speed == pytest.approx(38_400)
    assert ours.flops == pytest.approx(2e11)
    assert ours.mfu == pytest.approx(0.2)
    assert ours.wait == pytest.approx(0.01)
    assert eager.wait is None


def test_the_markdown_table():
    head, rule, line, empty, note = benchmark.table(RESULT).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|") == 9
    assert "| Almanac, ms a step | PyTorch, eager, ms a step | PyTorch, eager ÷ Almanac |" in head
    assert line == (
        "| gpt, 1.25 M | 12×64 | float32 | 20.0 (16.0 to 40.0) | 32.0 (30.0 to 50.0) "
        "| 1.50 (1.25 to 2.00) | 5.0, 2.0; 3.0, 2.5 | 400; 300 |"
    )
    assert not empty
    assert note.startswith("Abacus 3, 2 threads; JAX 0.10.2, PyTorch 2.13.0; 2026-01-02 03:04 UTC")


def test_the_terminal_table_is_aligned_and_keeps_to_the_width():
    lines = benchmark.describe(RESULT["cases"][0]).splitlines()
    assert "1,250,000 parameters, batch 12 x 64, float32, 4.00 GFLOP a step" in lines[0]
    assert lines[1] == "3 rounds of 20 steps; our loop waits 1.0% of a step for data"
    assert len({len(line) for line in lines[2:]}) == 1
    assert "38,400" in lines[3] and "1.50 (1.25 to 2.00)" in lines[4]
    assert max(map(len, lines)) <= 120


def test_the_readme_holds_the_tables_of_all_results(tmp_path):
    readme, folder = tmp_path / "README.md", tmp_path / "results"
    folder.mkdir()
    readme.write_text(f"# A\n\n{benchmark.BEGIN}\nold\n{benchmark.END}\n\nB\n")
    with pytest.raises(UserError, match="holds no results"):
        benchmark.write_readme(readme, folder)
    other = copy.deepcopy(RESULT)
    other["machine"]["accelerator"], other["tf32"] = "NVIDIA X1", True
    (folder / "a.json").write_text(json.dumps(RESULT))
    (folder / "b.json").write_text(json.dumps(other))
    benchmark.write_readme(readme, folder)
    text = readme.read_text()
    assert text.startswith("# A\n\n") and text.endswith(f"{benchmark.END}\n\nB\n")
    assert "\nold\n" not in text
    assert text.count(benchmark.table(RESULT)) == 1
    assert "NVIDIA X1, Abacus 3, 2 threads" in text and "TF32 is on in both" in text
    readme.write_text("# A\n")
    with pytest.raises(UserError, match="wants one line <!-- benchmark -->"):
        benchmark.write_readme(readme, folder)


def test_a_step_stays_in_flight():
    done, order = iter(range(9)), []
    times = bench_steps.timed(lambda: next(done), order.append, 3)
    assert order == [0, 1, 2, 3]  # each waited for once, after the next one was sent off
    assert len(times) == 3


def test_a_process_that_fails_is_told_by_its_last_word(tmp_path):
    benchmark.prepare(benchmark.Case("language_model/pydoc_char"), tmp_path, ["dtype=int8"], 1)
    with pytest.raises(UserError, match="the compute dtype is"):
        benchmark.agree(tmp_path, [], 1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["gtp"], "did you mean 'gpt'"),
        (["--rounds=0"], "--rounds=0: at least 1"),
        (["--against", "jax"], "eager, compile, both with a comma, or none"),
        (["--threads=9999"], "may use"),
    ],
)
def test_bad_options_are_named(argv, words):
    with pytest.raises(UserError, match=words):
        benchmark.main([*argv, "--against=none"] if "--against" not in argv else argv)


def test_a_missing_torch_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(benchmark, "_installed", lambda name: False)
    with pytest.raises(UserError, match=r"pip install '.\[bench\]', or use --against none"):
        benchmark.main(["gpt"])


def test_a_machine_names_its_file():
    assert benchmark.slug({"cpu": "AMD EPYC (TM)", "accelerator": None}, 2) == "amd-epyc-tm-2-threads"
    assert benchmark.slug({"cpu": "any", "accelerator": "NVIDIA H200"}, 2) == "nvidia-h200"
