"""docs/new-family.md: its files, written into an empty folder, are a family that trains and passes the contract."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.docs
FILE = re.compile(r"^`(experiments/\S+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_PROCESS = "mesh or overfits or keys or bundle or finite"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose `experiments` has this family alone, and what every family shares."""
    folder = tmp_path_factory.mktemp("family")
    written = FILE.findall((ROOT / "docs/new-family.md").read_text())
    assert len(written) == 4
    for name, text in written:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    for name in ("__init__", "launch", "options"):
        shutil.copy(ROOT / f"experiments/{name}.py", folder / "experiments")
    lines = [line for _, text in written for line in text.splitlines() if line.strip()]
    assert len(lines) < 200
    return folder


def run(folder, *words):
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_trains(folder):
    said = run(folder, "-m", "tools.cli", "train", "masked_autoencoder/tiny", "--workdir", str(folder / "run"))
    assert "valid/loss baseline: mean pixel 0.142" in said
    assert float(re.search(r"step +12  valid  loss (\S+)", said)[1]) < 0.25


def test_it_passes_the_contract(folder):
    words = [
        "-p",
        "no:cacheprovider",
        f"--rootdir={ROOT}",
        "-c",
        str(ROOT / "pyproject.toml"),
        "-o",
        f"pythonpath={folder}",
    ]
    chosen = f"masked_autoencoder and ({IN_PROCESS})"
    said = run(folder, "-m", "pytest", "-q", *words, str(ROOT / "tests/contract/in_process"), "-k", chosen)
    assert re.search(r"\b5 passed", said), said
