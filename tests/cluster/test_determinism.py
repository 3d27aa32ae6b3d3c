"""The switch acts before JAX starts, and the fingerprint tells what differs."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from research.cluster import determinism
from research.core import mesh
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
THEN = {"platform": "gpu", "device kind": "H100", "devices": 8, "jaxlib": "0.10.2", "XLA_FLAGS": ""}


def child(code, **env):
    """A process with the given environment and no other setting of threads or XLA."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC")}
    kept |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **env}
    code = f"import os\nfrom research.cluster import determinism\nimport jax\n{code}"
    return subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, timeout=300)


def test_this_jaxlib_knows_the_flag():
    """An unknown flag ends the process: the check that the switch does no such harm, and that this test would see it."""
    add = "jax.numpy.ones(2).sum(); print(os.environ['XLA_FLAGS'])"
    found = child(f"determinism.switch_on(); determinism.switch_on(); {add}", XLA_FLAGS="--xla_cpu_max_isa=AVX2")
    assert found.stdout.split() == ["--xla_cpu_max_isa=AVX2", "--xla_gpu_deterministic_ops=true"], found.stderr
    unknown = child(add, XLA_FLAGS="--xla_gpu_no_such_flag=true")
    assert unknown.returncode != 0 and "Unknown flag" in unknown.stderr


def test_a_flag_that_says_no_is_overruled():
    found = child("determinism.switch_on(); print(os.environ['XLA_FLAGS'])", XLA_FLAGS=f"{determinism.GPU_FLAG}=false")
    assert found.stdout.split() == ["--xla_gpu_deterministic_ops=true"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process's cores can be set on Linux alone")
def test_one_core_gets_the_threads_of_two():
    ask = "from research.core import mesh; print(determinism.fingerprint(mesh.make_mesh({'data': 1}))['threads'])"
    one = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert child(f"{one}; {ask}").stdout.split() == ["one"]
    assert child(f"{one}; determinism.switch_on(); {ask}").stdout.split() == ["several"]
    assert child(f"determinism.switch_on(); {ask}", NPROC="3").stdout.split() == ["several"]


def test_on_a_cpu_that_has_started_it_does_no_harm(monkeypatch):
    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", "")
    determinism.switch_on()
    assert os.environ["XLA_FLAGS"] == ""


def test_a_gpu_that_has_started_without_it_is_an_error(monkeypatch):
    jax.devices()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    determinism.switch_on()
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(UserError, match="deterministic = True: JAX already runs on the GPU without it; set XLA_FLAGS="):
        determinism.switch_on()


def test_fingerprint_is_of_this_process(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_cpu_max_isa=AVX2")
    found = determinism.fingerprint(mesh.make_mesh({"data": 4, "model": 2}))
    assert (found["platform"], found["devices"], found["hosts"], found["mesh"]) == ("cpu", 8, 1, "data 4 x model 2")
    assert found["jax"] == jax.__version__
    assert found["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert determinism.differences(found, determinism.fingerprint(mesh.make_mesh({"data": 4, "model": 2}))) == []
    other = determinism.fingerprint(mesh.make_mesh({"data": 8, "model": 1}))
    assert determinism.differences(found, other) == ["mesh: data 4 x model 2 then, data 8 x model 1 now"]


def test_instruction_set_is_what_linux_lists(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor: 0\nflags\t\t: fpu sse2 fma avx2 avx aes\n\nprocessor: 1\nflags\t\t: fpu\n")
    assert determinism.instruction_set(file).split()[1:] == ["avx", "avx2", "fma"]
    file.write_text("processor: 0\nFeatures\t: fp asimd aes sve2\n")
    assert determinism.instruction_set(file).split()[1:] == ["asimd", "sve2"]
    assert len(determinism.instruction_set(tmp_path / "none").split()) == 1


def test_what_differs_is_named_and_refused():
    now = {**THEN, "devices": 4, "jaxlib": "0.11.0", "XLA_FLAGS": "--xla_x=1", "driver": "12"}
    assert determinism.differences(THEN, now) == [
        "devices: 8 then, 4 now",
        "jaxlib: 0.10.2 then, 0.11.0 now",
        "XLA_FLAGS: none then, --xla_x=1 now",
    ]
    with pytest.raises(UserError, match="would not go on to the bit: devices: 8 then, 4 now; .*--resume=force"):
        determinism.check(Path("run"), THEN, now)
    determinism.check(Path("run"), THEN, {**THEN, "driver": "12"})


def test_convolutions_are_xlas_own():
    """Eigen's, which a CPU is tuned to, have other bits on another number of threads."""
    code = "from research.cluster import cpu; cpu.tune(); determinism.switch_on(); print(os.environ['XLA_FLAGS'])"
    assert "ynn" not in child(code).stdout
    late = child("from research.cluster import cpu; cpu.tune(); jax.devices(); determinism.switch_on()")
    assert late.returncode == 1 and "set ALMANAC_CPU_TUNING=off before it starts" in late.stderr


def test_a_fingerprint_that_is_none_is_an_error_of_the_file(tmp_path):
    with pytest.raises(UserError, match=r"config.json: 'fingerprint': wanted an object, not \[\]"):
        determinism.check(tmp_path, [], {})
