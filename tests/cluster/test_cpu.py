"""What is set for a CPU, where it is, and what it does to a step's page faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from research.cluster import cpu

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, statistics
from research.cluster import cpu
cpu.tune()
import jax, jax.numpy as jnp
step = jax.jit(lambda x, w: jnp.tanh(x * 2) @ w)  # a product is in no fusion: its operand, 16 MiB, is a temporary
x, w = jnp.ones((4096, 1024)), jnp.ones((1024, 1024)) / 1024
for _ in range(10):
    x = step(x / 2, w).block_until_ready()
faults = []  # a step; the median of eight blocks, since each thread of XLA's pool touches pages of its own once
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        x = step(x / 2, w).block_until_ready()
    faults.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
print(int(statistics.median(faults)))
"""


def child(code, **env):
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "GLIBC_TUNABLES", cpu.SWITCH)}
    kept |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not cpu._is_glibc(), reason="the allocator is glibc's")
def test_a_step_takes_no_new_pages():
    """Each step's buffers are 4,096 pages and more: as installed many are mapped anew, tuned hardly any."""
    as_installed, tuned = int(child(FAULTS, **{cpu.SWITCH: "off"})), int(child(FAULTS))
    assert as_installed > 1_000
    assert tuned < as_installed / 4


def test_the_flags_are_known_to_this_xla():
    code = "from research.cluster import cpu; import os; cpu.tune(); import jax; jax.devices(); print(os.environ['XLA_FLAGS'])"
    assert cpu.knows_flags()
    assert child(code).split() == [
        f"{name}={value}" for name, value in cpu.FLAGS.items()
    ]  # an unknown one ends a process


def test_once_the_backend_runs_the_flags_stay_as_they_are():
    code = "import os, jax; jax.devices(); from research.cluster import cpu; cpu.tune(); print(os.environ.get('XLA_FLAGS'))"
    assert child(code) == "None"


@pytest.mark.parametrize(
    ("platform", "environ", "plugins", "expected"),
    [
        (None, {}, False, True),
        (None, {}, True, False),
        (None, {"JAX_PLATFORMS": "cpu"}, True, True),
        (None, {"JAX_PLATFORMS": "cuda,cpu"}, False, False),
        ("cpu", {}, True, True),
        ("cpu", {"JAX_PLATFORMS": "cuda"}, True, True),
        ("gpu", {"JAX_PLATFORMS": "cpu"}, True, False),
        (None, {cpu.SWITCH: "off"}, False, False),
        ("cpu", {cpu.SWITCH: "OFF"}, False, False),
    ],
)
def test_only_where_the_cpu_is_certain(monkeypatch, platform, environ, plugins, expected):
    monkeypatch.setattr(cpu, "_accelerator_plugins", lambda: plugins)
    assert cpu.wanted(platform, environ) is expected


def test_a_users_flags_stay():
    ours = [f"{name}={value}" for name, value in cpu.FLAGS.items()]
    assert cpu.with_flags("").split() == ours
    assert cpu.with_flags("--xla_a=1").split() == ["--xla_a=1", *ours]
    assert cpu.with_flags(cpu.with_flags("--xla_a=1")).split() == ["--xla_a=1", *ours]
    assert cpu.with_flags(f"{cpu.CONVOLUTIONS}=dot").split() == [f"{cpu.CONVOLUTIONS}=dot", ours[1]]
    assert cpu.with_own_convolutions(f"--xla_a=1 {ours[0]} --xla_b=2") == "--xla_a=1 --xla_b=2"


@pytest.mark.parametrize(
    ("version", "known"), [("0.10.1", False), ("0.10.2", True), ("0.12.0.1", True), ("0.13.0", False), ("dev", False)]
)
def test_an_untried_jaxlib_gets_no_flags(monkeypatch, version, known):
    monkeypatch.setattr(cpu.metadata, "version", lambda name: version)
    assert cpu.knows_flags() is known


def test_the_doctors_line():
    on = {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": f"glibc.malloc.arena_max=2:{cpu.TUNABLE}"}
    on["XLA_FLAGS"] = cpu.with_flags("")
    assert cpu.describe(on).endswith("huge pages, Eigen's convolutions")
    assert cpu.describe({"JAX_PLATFORMS": "cpu"}).endswith("usual pages, XLA's convolutions")
    assert cpu.describe(on | {cpu.SWITCH: "off"}) == f"off: {cpu.SWITCH}=off"
    assert cpu.describe({"JAX_PLATFORMS": "cuda"}) == "off: JAX may run on an accelerator here"
