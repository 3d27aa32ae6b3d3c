"""What a verb imports before it answers: nothing that takes long and that it does not need. No clock: a machine may be busy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = {"PIL", "datasketch", "grain", "matplotlib", "scipy", "sklearn", "tensorflow_datasets"}
FILES = {"orbax", "tensorstore"}
MODELS = {"flax", "jax", "optax", "tokenizers"}
SERVER = {"fastapi", "prometheus_client", "uvicorn"}
# Runs one command line after the other, and prints after each what of `argv[1]` (with commas) has been imported so far.
CODE = """
import contextlib, io, sys
from tools import cli
for line in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = cli.main(line.split())
        except SystemExit as e:  # argparse's
            status = e.code
    print(line, status, *sorted(set(sys.argv[1].split(",")) & {name.split(".")[0] for name in sys.modules}))
"""


def heavy(watched, *lines):
    """Each command line -> its exit status and what it has imported, of `watched`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CODE, ",".join(watched), *lines]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(lines)
    return {line: text.removeprefix(f"{line} ").split() for line, text in zip(lines, said, strict=True)}


@pytest.mark.parametrize("group", ["answers", "helps", "mistakes"])
def test_a_verb_that_computes_nothing_imports_no_jax(group):
    lines = {
        "answers": {"--help": 0, "list": 0, "list language_model": 0, "verify": 0},
        "helps": {
            f"{verb} --help": 0
            for verb in (
                "list",
                "verify",
                "show",
                "train",
                "sample",
                "evaluate",
                "predict",
                "serve",
                "reproduce",
                "crossvalidate",
            )
        },
        "mistakes": {
            "shwo": 2,
            "show": 2,
            "show no_family/no_name": 2,
            "sample": 2,
            "predict": 2,
            "train --hosts=0": 2,
        },
    }[group]
    found = heavy(DATA | FILES | MODELS | SERVER, *lines)
    assert found == {line: [str(status)] for line, status in lines.items()}


def test_checkpoints_are_looked_for_without_models_and_data(tmp_path):
    lines = "checkpoint --help", f"checkpoint list {tmp_path}"
    found = heavy(DATA | FILES | SERVER | MODELS - {"jax"}, *lines)
    assert found == {lines[0]: ["0"], lines[1]: ["2"]}  # an empty folder is a mistake


def test_show_takes_models_but_no_checkpoints_and_nothing_for_other_data():
    found = heavy(DATA | FILES | MODELS | SERVER, "show language_model/tiny", "show image_classification/tiny")
    text, pictures = found.values()
    assert text[0] == pictures[0] == "0"
    assert not (DATA | FILES | SERVER) & set(text)
    assert not ({"datasketch", "grain", "tensorflow_datasets"} | FILES) & set(pictures)
