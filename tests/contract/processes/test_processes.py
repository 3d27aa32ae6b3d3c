"""The contract in real processes: killed, on several hosts, compiled for a TPU. The quick run has two unlike families."""

import os
import random
import subprocess
import sys

import pytest

from tests.contract.families import FAMILIES, ROOT
from tools.dev.stress_cases import stress_kills

pytestmark = [pytest.mark.contract, pytest.mark.parametrize("family", FAMILIES)]


def test_a_killed_run_resumes_to_the_bit(family, tmp_path):
    """SIGKILL in two phases of a run, resumed: its arrays, randomness and metric log are the undisturbed run's."""
    seed = random.SystemRandom().randrange(10**6)
    found = stress_kills.measure([family], 2, seed, tmp_path)
    assert stress_kills.faults(found) == [], f"{family} (seed {seed})"
    assert found["cases"][-1]["kept"] > 0, f"{family} (seed {seed}): no life was resumed"


def test_two_hosts_are_one(family, tmp_path):
    """Two processes with a device each train what one with two devices does: the metric log is the same, to the bit."""
    words = [sys.executable, "-m", "tools.cli", "train", f"{family}/tiny", "--workdir"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    lives = {"two": (["--local-hosts=2"], 1), "one": ([], 2)}
    for name, (more, devices) in lives.items():
        env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        command = [*words, str(tmp_path / name), *more]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{family}: {name}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        assert "2 x cpu, mesh data 2" in done.stdout
    two, one = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in lives)
    assert two == one, f"{family}: two hosts and one differ"


AOT = """
import sys, jax
jax.config.update("jax_platforms", "cpu")
from jax.experimental import topologies
import experiments
from research.core import config, mesh, state
from research.run import reopen
family = sys.argv[1]
e = reopen.build(family, config.load(f"{family}/tiny"))
devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
grid = mesh.make_mesh({"data": 4, "model": 1}, devices)
with jax.set_mesh(grid):
    shapes, _ = state.abstract(e.init_fn, e.tx, grid, e.sharding["fsdp"], bool(e.ema))
    rows = mesh.batch_sharding(grid)
    batch = {k: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=rows) for k, s in e.train.spec.items()}
    compiled = e.train_step.lower(shapes, batch).compile()
print("TPU", len(compiled.as_text()))
"""


def test_the_step_compiles_for_a_tpu(family):
    """Ahead of time for a v5e 2x2, with no TPU."""
    pytest.importorskip("libtpu", reason="needs libtpu: Linux on x86-64 only")
    env = {
        **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", AOT, family], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "TPU" in done.stdout, f"{family}: {done.stderr[-2000:]}"
