"""The commit that a run records; the profiler where libtpu is installed and no TPU is, in processes of their own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from research.cluster import device

needs_libtpu = pytest.mark.skipif(find_spec("libtpu") is None, reason="needs libtpu: Linux on x86-64 only")

ROOT = Path(__file__).resolve().parents[2]
TRACE = """
profiler = device.Profiler(pathlib.Path(sys.argv[1]), (0, 1))
profiler.check(1)
profiler.at(0)
jax.block_until_ready(jax.numpy.ones(3) + 1)
profiler.at(1)
print(jax.default_backend())
"""


def run(code, folder):
    """`code` without JAX_PLATFORMS: JAX chooses."""
    env = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    env |= {"PYTHONPATH": str(ROOT), "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # another test may hold it
    head = "import pathlib, sys, jax\nfrom research.cluster import device\n"
    command = [sys.executable, "-c", head + code, str(folder)]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)


@needs_libtpu
def test_a_trace_where_libtpu_is_installed(tmp_path):
    done = run("device.choose(None)" + TRACE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "cpu\n"), done.stderr
    assert "libtpu" not in done.stderr
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


@needs_libtpu
def test_a_trace_where_libtpu_was_loaded_is_refused(tmp_path):
    done = run("jax.devices()" + TRACE, tmp_path)
    assert done.returncode == 1
    assert "UserError: --profile=0:1: this process has loaded libtpu" in done.stderr
    assert done.stderr.rstrip().endswith("start with JAX_PLATFORMS=cpu, or uninstall libtpu")


@needs_libtpu
def test_a_tpu_that_is_named_is_tried():
    done = run("device.choose('tpu')", ".")
    assert "UserError: --device=tpu: no such device here" in done.stderr and "no TPU on this machine" not in done.stderr


def test_a_commit_that_does_not_hold_the_code_is_marked(tmp_path):
    """Changed files, and a family that git does not track; not runs and notes beside it."""

    def git(*words):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    family = tmp_path / "experiments" / "mine"
    git("init", "-q")
    (tmp_path / "README.md").write_text("one")
    git("add", ".")
    git("commit", "-qm", "one")
    head = device.commit(tmp_path)
    assert len(head) == 12
    (tmp_path / "notes.txt").write_text("mine")
    assert device.commit(tmp_path) == head
    family.mkdir(parents=True)
    (family / "train.py").write_text("")
    assert device.commit(tmp_path) == f"{head}+"
    (family / "train.py").unlink()
    (tmp_path / "README.md").write_text("two")
    assert device.commit(tmp_path) == f"{head}+"


def test_a_commit_may_be_named_by_who_made_the_copy(monkeypatch, tmp_path):
    monkeypatch.setenv("ALMANAC_COMMIT", "abc")
    assert device.commit() == device.commit(tmp_path) == "abc"  # in a checkout and outside of one
    monkeypatch.delenv("ALMANAC_COMMIT")
    assert device.commit(tmp_path) == "-"
