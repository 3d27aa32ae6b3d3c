"""Runs of an earlier Almanac open, resume and evaluate, and the same config trains to the same log. See tests/fixtures."""

import json
import math
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from tools import cli

ROOT = Path(__file__).resolve().parents[2]
EARLIER = ROOT / "tests" / "fixtures" / "earlier"
FAMILIES = sorted(path.stem for path in EARLIER.glob("*.zip"))
pytestmark = pytest.mark.parametrize("family", FAMILIES, scope="module")


@pytest.fixture
def run(family, tmp_path):
    with zipfile.ZipFile(EARLIER / f"{family}.zip") as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def config(folder):
    return json.loads((folder / "config.json").read_text())


def test_it_evaluates_to_what_it_logged(run, capsys):
    last = {row["split"]: row["values"] for row in rows(run / "metrics.jsonl")}
    for split in last.keys() - {"train"}:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of damage
            assert cli.main(["evaluate", str(run), f"--split={split}"]) == 0
        said = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
        logged = {f"{split}/{name}": value for name, value in last[split].items() if f"{split}/{name}" in said}
        assert logged
        for name, value in logged.items():
            assert float(said[name]) == pytest.approx(math.nan if value is None else value, abs=2e-3, nan_ok=True), name


def test_a_start_finds_it_finished(run, capsys):
    was = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.main(["train", str(run / "config.json"), f"--workdir={run}"]) == 0
    assert "finished at step 12: nothing is left to do" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in was.items())


def test_it_trains_further(run, capsys):
    words = ["train", str(run / "config.json"), f"--workdir={run}", "--resume=force", "--config.num_steps=16"]
    assert cli.main(words) == 0
    assert "resumed at step 12 of 16" in capsys.readouterr().out
    assert [row["step"] for row in rows(run / "metrics.jsonl") if row["split"] == "train"] == [4, 8, 12, 16]
    first, second = config(run)["attempts"]
    assert (first["step"], second["step"]) == (None, 12) and second["changed"] == ["num_steps: 12 -> 16"]


def command(*words):
    """What the command line prints, in a process with one device."""
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tools.cli", *map(str, words)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(family, tmp_path_factory):
    folder = tmp_path_factory.mktemp(family) / "now"
    command("train", f"{family}/tiny", f"--workdir={folder}")
    return folder


def test_the_same_config_trains_to_the_same_log(family, run, trained):
    """The same bytes on a machine whose fingerprint is the same; elsewhere the same but for last digits."""
    earlier, now = EARLIER / f"{family}.jsonl", trained / "metrics.jsonl"
    if config(run)["fingerprint"] == config(trained)["fingerprint"]:
        assert now.read_bytes() == earlier.read_bytes()
        return
    for a, b in zip(rows(earlier), rows(now), strict=True):
        assert (a["step"], a["split"], [*a["values"]]) == (b["step"], b["split"], [*b["values"]])
        for name, value in a["values"].items():
            assert b["values"][name] == (value and pytest.approx(value, rel=0.02, abs=0.02)), (a["step"], name)


def test_evaluate_prints_what_was_logged_last(trained):
    """Split for split, to the last bit: the loop and the command measure in one way."""
    last = {row["split"]: row for row in rows(trained / "metrics.jsonl") if row["split"] != "train"}
    assert last
    for split, row in last.items():
        said = json.loads(command("evaluate", trained, "--checkpoint=last", f"--split={split}", "--json"))
        assert said == row
