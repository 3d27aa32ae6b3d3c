"""The table in docs/determinism.md of what is equal to the bit and what within which tolerance: each row a test.

What is said of threads, caches and processors is tested in processes of their own. That a run which was killed and resumed is
the undisturbed one is the contract's first promise (tests/contract), for every family.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from research.cluster import cpu, determinism
from research.core import config, mesh, state
from research.run import reopen
from tools.verbs import replay
from tools.verbs.train import trainer

ROOT = Path(__file__).resolve().parents[2]
STEPS = 50
# A rate at which the weights do not yet run away from each other: at the config's own of 1e-2 the same last bits grow a
# thousandfold in 30 steps, and the loss of step 50 differs by 4 %.
TINY = ("optim.peak_lr=1e-3", "model.num_layers=1")  # one layer compiles in half the time
# Measured: 3.5e-7 at most, three units in the last place of a float32. Ten are allowed.
TOLERANCE = 1.2e-6

CHILD = """
import json, os, sys
name, steps, cores, *overrides = sys.argv[1:]
if cores == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from research.cluster import cpu, determinism, device
cpu.tune()
if "deterministic" in overrides:
    overrides.remove("deterministic")
    determinism.switch_on()
import jax
from research.core import config, mesh, state
from tools.verbs import replay
from research.run import reopen
device.cache_report()
device.use_compilation_cache()
e = reopen.build(name, config.load(name, [f"num_steps={steps}", "mesh.data=1", *overrides]))
grid = mesh.make_mesh(e.cfg.mesh)
with jax.set_mesh(grid):
    now, losses = state.create(e.init_fn, e.tx, 0, grid, (), bool(e.ema)), []
    for batch in e.train.on_device(grid, 0, int(steps)):
        now, metrics = e.train_step(now, batch)
        losses.append(metrics["loss"])
    losses = [float(s) / float(w) for s, w in jax.device_get(losses)]
print(json.dumps({"digest": replay.digest(now), "losses": losses, "cache": device.cache_report()}))
"""


def child(name, steps, *overrides, cores="several", **env):
    """A process that trains on one device -> its state's digest, its losses, what the compilation cache had."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "NPROC", "JAX_COMPILATION_CACHE_DIR")}
    if cores == "several":
        kept["NPROC"] = "2"  # threads of XLA's pool, whatever cores there are
    command = [sys.executable, "-c", CHILD, name, str(steps), cores, *overrides]
    kept |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def alone(cache):
    """The process that the others are compared with: two threads, an empty compilation cache."""
    return child("language_model/tiny", STEPS, *TINY, **cache)


def bare_loop(axes, rules, steps, *overrides):
    """language_model/tiny on a mesh -> its losses [steps] and final state."""
    e = reopen.build(
        "language_model/tiny", config.load("language_model/tiny", [*TINY, f"num_steps={steps}", *overrides])
    )
    grid = mesh.make_mesh(axes, jax.devices()[: int(np.prod(list(axes.values())))])
    with jax.set_mesh(grid):
        now, losses = state.create(e.init_fn, e.tx, 0, grid, e.sharding[rules] if rules else (), bool(e.ema)), []
        for batch in e.train.on_device(grid, 0, steps):
            now, metrics = e.train_step(now, batch)
            losses.append(metrics["loss"])
        return [float(s) / float(w) for s, w in jax.device_get(losses)], now


def curve(axes, rules, *overrides):
    return bare_loop(axes, rules, STEPS, *overrides)[0]


@pytest.fixture(scope="module")
def one_device():
    return curve({"data": 1, "model": 1}, "")


# To the bit


def test_the_same_command_twice_with_a_cold_cache_and_a_warm_one(alone, cache):
    again = child("language_model/tiny", STEPS, *TINY, **cache)
    assert " 0 hits" in alone["cache"] and " 0 misses" in again["cache"]
    assert (again["digest"], again["losses"]) == (alone["digest"], alone["losses"])


needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are set on Linux alone")


@needs_affinity
def test_one_thread_or_two(alone):
    """Compiled anew: a program's threads are part of it."""
    assert child("language_model/tiny", STEPS, *TINY, cores="one")["digest"] == alone["digest"]


@needs_affinity
@pytest.mark.slow
def test_one_thread_or_two_with_small_convolutions_of_xlas_own():
    """Eigen's, which a CPU is tuned to, are summed in another order for each number of threads."""
    off = {cpu.SWITCH: "off"}
    one, two = (child("image_classification/tiny", 12, cores=cores, **off)["digest"] for cores in ("one", "several"))
    assert one == two


@needs_affinity
@pytest.mark.slow
def test_one_core_or_two_with_any_convolution_where_deterministic():
    """Without the switch XLA with one thread sums these convolutions' gradients in another order."""
    name, rest = "image_classification/digits", ("optim.warmup=0", "deterministic")
    one, two = (child(name, 3, *rest, cores=cores)["digest"] for cores in ("one", "several"))
    assert one == two


def test_what_is_logged_and_saved_changes_no_parameter(tmp_path):
    """Against a bare loop that logs, evaluates and saves nothing."""
    often = ("log_every=5", "eval_every=4", "save_every=7", "keep=1", "sample.length=1", "mesh.data=1")
    cfg = config.load("language_model/tiny", [*TINY, *often])
    found = trainer(cfg.name)(cfg, tmp_path / "run")
    _, bare = bare_loop({"data": 1, "model": 1}, "", cfg.num_steps)
    assert replay.digest(found) == replay.digest(bare)


# Within a tolerance

MESHES = {
    "data 2": ({"data": 2, "model": 1}, ""),
    "data 4": ({"data": 4, "model": 1}, ""),
    "data 8": ({"data": 8, "model": 1}, ""),
    "fsdp 8": ({"data": 8, "model": 1}, "fsdp"),
    "data 4 x tensor 2": ({"data": 4, "model": 2}, "tensor"),
}
NORMAL = ("data 8", "fsdp 8")  # the contract has tensor parallelism, too


@pytest.mark.parametrize("plan", [pytest.param(p, marks=() if p in NORMAL else pytest.mark.slow) for p in MESHES])
def test_other_meshes(one_device, plan):
    """The same batches and randomness, sums in another order."""
    assert curve(*MESHES[plan]) == pytest.approx(one_device, rel=TOLERANCE)


def test_microbatches():
    """Without dropout, whose masks are drawn for each microbatch."""
    axes, plain = {"data": 1, "model": 1}, "model.dropout=0.0"
    assert curve(axes, "", plain, "optim.accumulate=2") == pytest.approx(curve(axes, "", plain), rel=TOLERANCE)


AVX512 = "avx512f" in determinism.instruction_set(Path("/proc/cpuinfo"))


@pytest.mark.skipif(not AVX512, reason="needs AVX-512, to leave it out")
def test_another_instruction_set(alone, cache):
    """Stands for other processors: programs of AVX2 in place of AVX-512 sum in other groups."""
    other = child("language_model/tiny", STEPS, *TINY, **cache, XLA_FLAGS="--xla_cpu_max_isa=AVX2")
    assert other["losses"] == pytest.approx(alone["losses"], rel=TOLERANCE)
    assert other["digest"] != alone["digest"], "not compiled anew: nothing was shown"
