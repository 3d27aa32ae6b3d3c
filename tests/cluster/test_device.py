"""The profiler where libtpu is installed and no TPU is: each case in a process of its own, for a loaded libtpu stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("libtpu", reason="needs libtpu: Linux on x86-64 only")

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


def test_a_trace_where_libtpu_is_installed(tmp_path):
    done = run("device.choose(None)" + TRACE, tmp_path)
    assert (done.returncode, done.stdout) == (0, "cpu\n"), done.stderr
    assert "libtpu" not in done.stderr
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_a_trace_where_libtpu_was_loaded_is_refused(tmp_path):
    done = run("jax.devices()" + TRACE, tmp_path)
    assert done.returncode == 1
    assert "UserError: --profile=0:1: this process has loaded libtpu" in done.stderr
    assert done.stderr.rstrip().endswith("start with JAX_PLATFORMS=cpu, or uninstall libtpu")


def test_a_tpu_that_is_named_is_tried():
    done = run("device.choose('tpu')", ".")
    assert "UserError: --device=tpu: no such device here" in done.stderr and "no TPU on this machine" not in done.stderr
