"""The input benchmark end to end on tiny pictures, and what its table says."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from research.core import state
from research.core.mesh import make_mesh
from research.util.errors import UserError
from tools.dev.bench import bench_input

TINY = bench_input.Case((20, 30), "jpg", 8, 4, ("model.name=mlp",))


def test_a_tiny_case_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(bench_input.CASES, "8", TINY)
    words = ["8", "--rounds=2", "--steps=3", "--pictures=24", "--threads=1,2"]
    assert bench_input.main([*words, f"--out={tmp_path / 'out.json'}"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["8"]
    assert found["stored"][:3] == [20, 30, "jpg"]
    assert 300 < found["stored"][3] < 1800  # bytes; raw, they would be 1,800
    assert [len(ms) for ms in found["stages_ms"].values()] == [2, 2, 2, 2]
    assert len(found["step_ms"]) == 2
    for place in ("alone", "beside"):
        assert [entry["threads"] for entry in found[place]] == [1, 2]
        assert all(len(entry["images_per_s"]) == 2 and min(entry["images_per_s"]) > 0 for entry in found[place])
    for entry in found["beside"]:
        for ms, speed, share in zip(entry["step_ms"], entry["images_per_s"], entry["wait_share"], strict=True):
            assert ms * speed == pytest.approx(4 * 1e3)  # 4 images a step
            assert 0 <= share < 1
    told = capsys.readouterr().out
    assert "30 x 20 jpg" in told and "batch 4" in told
    assert bench_input.table({"8": found}) + "\n" == told


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("32", 0.27e6),  # He et al. 2015, table 6: ResNet-20
        ("224", 11_689_512 - 998 * 513),  # torchvision's resnet18, with 2 classes for its 1,000
    ],
)
def test_the_cases_are_the_models_they_name(tmp_path, name, parameters):
    bench_input.write_pictures(tmp_path, 20, (8, 8), "png")
    case = bench_input.CASES[name]
    experiment = bench_input.build(case, tmp_path)
    assert experiment.train.spec["image"].shape == (case.batch_size, case.size, case.size, 3)
    shapes, _ = state.abstract(experiment.init_fn, experiment.tx, make_mesh({"data": 1}, jax.devices()[:1]))
    assert state.count(shapes.params) == pytest.approx(parameters, rel=0 if name == "224" else 0.02)


def test_the_table_holds_medians_and_the_spread():
    beside = {
        "threads": 2,
        "images_per_s": [30.0, 10.0, 20.0],
        "step_ms": [1.0, 3.0, 2.0],
        "wait_share": [0.5, 0.25, 0.0],
    }
    found = {
        "stored": [375, 500, "jpg", 70_000],
        "size": 224,
        "batch_size": 16,
        "model": ["model.depth=18"],
        "device": "cpu",
        "cores": 2,
        "stages_ms": {"stack": [0.25, 0.75, 0.5]},
        "step_ms": [4.0, 6.0, 5.0],
        "alone": [{"threads": 2, "images_per_s": [1000.0, 3000.0, 2000.0]}],
        "beside": [beside],
    }
    lines = bench_input.table({"224": found}).splitlines()
    assert lines[0] == "500 x 375 jpg of 70.0 kB to 224 x 224, batch 16; model.depth=18 on cpu, 2 cores"
    assert lines[1] == "ms a picture in one thread: stack 0.500"
    assert lines[3].split() == ["none:", "one", "batch", "again", "5.0", "(4.0", "to", "6.0)"]
    wanted = "2 2,000 (1,000 to 3,000) 20 (10 to 30) 2.0 (1.0 to 3.0) 25.0% (0.0% to 50.0%)"
    assert " ".join(lines[4].split()) == wanted
    assert lines[2].index("ms a step") + len("ms a step") == lines[3].rindex(")") + 1  # columns line up


def test_generated_pictures_are_repeatable_and_look_like_photographs(tmp_path):
    """Amplitudes fall as 1 / frequency: each octave of a photograph has about the same contrast."""
    paths = bench_input.write_pictures(tmp_path / "x", 3, (128, 128), "png")
    again = bench_input.write_pictures(tmp_path / "y", 3, (128, 128), "png")
    assert [a.read_bytes() for a in paths] == [b.read_bytes() for b in again]
    assert len({path.read_bytes() for path in paths}) == 3
    with Image.open(paths[0]) as image:
        grey = np.asarray(image.convert("L"), float)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128, 1 / 128)] * 2))
    low, high = (np.sqrt(power[(radius >= r) & (radius < 2 * r)].mean()) for r in (4, 16))
    assert 2 < low / high < 8  # a quarter of the amplitude at four times the frequency, within a factor of two


def test_thread_counts_reach_the_cores():
    assert [bench_input._counts(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["33"], "no case of size '33'"),
        (["32", "--rounds=0"], "--rounds=0: a whole number, at least 1"),
        (["32", "--threads=1,x"], "--threads=x: a whole number"),
        (["32", "--pictures=3"], "--pictures=3: at least 20"),
    ],
)
def test_mistakes_are_one_line(words, told):
    with pytest.raises(UserError, match=told):
        bench_input.main(words)
