"""Every family trained by the command line; runs of an earlier Almanac open, resume and evaluate, and train to the same log.

See tests/fixtures.
"""

import json
import math
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from tests.contract.families import FAMILIES, ROOT, experiment
from tools import cli

EARLIER = ROOT / "tests" / "fixtures" / "earlier"
KEPT = {path.stem for path in EARLIER.glob("*.zip")}
assert set(FAMILIES) >= KEPT
pytestmark = [pytest.mark.contract, pytest.mark.parametrize("family", FAMILIES, scope="module")]


@pytest.fixture
def run(family, tmp_path):
    if family not in KEPT:
        pytest.skip(f"{family}: no run of an earlier version is kept")
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


class Trained(NamedTuple):
    folder: Path
    said: str  # on stdout and stderr, every compilation too


@pytest.fixture(scope="module")
def trained(family, tmp_path_factory):
    """`tiny`, trained now by the command line in a process with one device."""
    folder = tmp_path_factory.mktemp(family) / "now"
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_LOG_COMPILES": "1"}
    words = [sys.executable, "-m", "tools.cli", "train", f"{family}/tiny", f"--workdir={folder}"]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    return Trained(folder, done.stdout)


def test_the_same_config_trains_to_the_same_log(family, run, trained):
    """The same bytes on a machine whose fingerprint is the same; elsewhere the same but for last digits."""
    earlier, now = EARLIER / f"{family}.jsonl", trained.folder / "metrics.jsonl"
    if config(run)["fingerprint"] == config(trained.folder)["fingerprint"]:
        assert now.read_bytes() == earlier.read_bytes()
        return
    for a, b in zip(rows(earlier), rows(now), strict=True):
        assert (a["step"], a["split"], [*a["values"]]) == (b["step"], b["split"], [*b["values"]])
        for name, value in a["values"].items():
            assert b["values"][name] == (value and pytest.approx(value, rel=0.02, abs=0.02)), (a["step"], name)


def test_evaluate_prints_what_was_logged_last(trained, capsys):
    """Split for split, to the last bit: the loop and the command measure in one way."""
    last = {row["split"]: row for row in rows(trained.folder / "metrics.jsonl") if row["split"] != "train"}
    assert last
    for split, row in last.items():
        capsys.readouterr()
        assert cli.main(["evaluate", str(trained.folder), "--checkpoint=last", f"--split={split}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == row


def test_the_log_is_whole(family, trained):
    """Every logging step stands once, in order. The step was compiled once for each shape of a batch, and not again."""
    train = experiment(family).train
    batches = [train.spec, *(train.batch(step) for step in range(12))]
    shapes = {str(jax.tree.map(np.shape, batch)) for batch in batches}
    assert trained.said.count("Finished XLA compilation of jit(step)") == len(shapes)
    logged = rows(trained.folder / "metrics.jsonl")
    assert [row["step"] for row in logged if row["split"] == "train"] == [4, 8, 12]
    assert [row["step"] for row in logged] == sorted(row["step"] for row in logged)
