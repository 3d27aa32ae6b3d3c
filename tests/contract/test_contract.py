"""The contract: what every family promises, on its `tiny` config. A family is any folder of experiments/ with a train.py.

Each failure says which promise was broken; see "The contract" in CONTRIBUTING.md.
"""

import importlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import experiments
from research.core import config, mesh, state
from research.core.guard import Guard
from research.interop import stablehlo
from research.run import reopen
from research.util.errors import UserError
from tools.dev.stress_cases import stress_kills
from tools.verbs import export, verify

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = sorted(p.parent.name for root in experiments.__path__ for p in Path(root).glob("*/train.py"))
pytestmark = pytest.mark.parametrize("family", FAMILIES)


def experiment(family, *overrides):
    return reopen.build(family, config.load(f"{family}/tiny", overrides))


def child(family, workdir, steps=30, **environ):
    """A real process that trains `steps` steps, with an odd save interval, on one device."""
    words = ["train", f"{family}/tiny", "--workdir", str(workdir), f"--config.num_steps={steps}"]
    words += ["--config.save_every=7", "--config.eval_every=10"]
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **environ}
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out.decode()
    return out.decode()


def test_a_killed_run_resumes_to_the_bit(family, tmp_path):
    """1. SIGKILL in two phases of a run, resumed: its arrays, randomness and metric log are the undisturbed run's."""
    seed = random.SystemRandom().randrange(10**6)
    found = stress_kills.measure([family], 2, seed, tmp_path)
    assert stress_kills.faults(found) == [], f"{family} (seed {seed})"
    assert found["cases"][-1]["kept"] > 0, f"{family} (seed {seed}): no life was resumed"


def losses(e, axes, rules, steps=4):
    """Each step's training metrics and the final parameters, on a mesh."""
    devices = mesh.make_mesh(axes, jax.devices()[: int(np.prod(list(axes.values())))])
    train_step = type(e.train_step)(e.train_step.fn)
    with jax.set_mesh(devices):
        now = state.create(e.init_fn, e.tx, 0, devices, rules, bool(e.ema))
        rows = []
        for batch in e.train.on_device(devices, 0, steps):
            now, metrics = train_step(now, batch)
            rows.append({k: float(v[0]) / float(v[1]) for k, v in metrics.items() if not k.endswith("bad")})
    return rows, jax.device_get(now.params)


def test_the_mesh_changes_nothing(family):
    """2. One device, eight data-parallel, FSDP and, where the family states it, tensor-parallel agree."""
    e = experiment(family)
    alone, params = losses(e, {"data": 1, "model": 1}, ())
    plans = {"data": ({"data": 8, "model": 1}, ())}
    assert "fsdp" in e.sharding, f"{family}: names no 'fsdp' rules"
    plans["fsdp"] = ({"data": 8, "model": 1}, e.sharding["fsdp"])
    if "tensor" in e.sharding:
        plans["tensor"] = ({"data": 4, "model": 2}, e.sharding["tensor"])
    for plan, (axes, rules) in plans.items():
        rows, other = losses(e, axes, rules)
        for step, (a, b) in enumerate(zip(alone, rows, strict=True)):
            for name in a:
                # Sums are taken in another order: last bits differ and four steps carry them on.
                assert b[name] == pytest.approx(a[name], rel=2e-4, abs=2e-5), f"{family}: {plan}, step {step}, {name}"
        worst = max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), params, other)))
        assert worst < 5e-3, f"{family}: {plan}: parameters differ by {worst:.1e}"


def test_two_hosts_are_one(family, tmp_path):
    """2. Two processes with a device each train what one with two devices does: the metric log is the same, to the bit."""
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


def test_a_step_that_is_not_finite_is_not_made(family):
    """A NaN is found in the step, named by its parameter, and the state before it is kept; or it is skipped, and counted."""
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    for policy, steps in (("stop", 0), ("skip", 1)):
        e = experiment(family, f"not_finite={policy}")
        with jax.set_mesh(one):
            now = state.create(e.init_fn, e.tx, 0, one, (), bool(e.ema))
            leaves, tree = jax.tree.flatten(now.params)
            leaves[0] = leaves[0].at[(0,) * leaves[0].ndim].set(np.nan)
            now = now.replace(params=jax.tree.unflatten(tree, leaves))
            before = jax.device_get((now.params, now.opt, now.model_state))
            after, metrics = e.train_step(now, next(e.train.on_device(one, 0, 1)))
        guard = Guard("stop", after.params, e.tx)
        guard.row(1, jax.device_get(metrics))
        assert guard.fault and guard.fault.step == 1, f"{family}: a NaN among the parameters was not found"
        assert (int(after.step), int(after.skipped)) == (steps, 1), f"{family}: {policy}"
        for a, b in zip(*map(jax.tree.leaves, (before, (after.params, after.opt, after.model_state))), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), f"{family}: {policy}: the state was changed"


def test_it_overfits_one_batch(family):
    """3. A single batch is learnt by heart."""
    if "loss" not in _first_metrics(family):
        pytest.skip(f"{family}: a game of several losses has no batch to overfit")
    e = experiment(family, "num_steps=200", "optim.schedule=constant")
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        now = state.create(e.init_fn, e.tx, 0, one)
        batch = next(iter(e.train.on_device(one, 0, 1)))
        seen = []
        for _ in range(200):
            now, metrics = e.train_step(now, batch)
            seen.append(metrics["loss"][0] / metrics["loss"][1])
    first, last = float(seen[0]), float(np.mean(jax.device_get(seen[-10:])))
    assert last < 0.35 * first, f"{family}: after 200 steps on one batch the loss is {last:.3f} of {first:.3f}"


def _first_metrics(family):
    e = experiment(family)
    shapes, _ = state.abstract(e.init_fn, e.tx, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    return jax.eval_shape(e.train_step.fn, shapes, e.train.spec)[1]


def test_keys_are_known_and_read(family, tmp_path):
    """4. An unknown key, and a key that nothing reads, are errors that name the key."""
    with pytest.raises(UserError, match=re.escape("num_step'")):
        config.load(f"{family}/tiny", ["num_step=3"])
    cfg = config.load(f"{family}/tiny")
    with cfg.unlocked():
        cfg.data.colour = "red"
    train = importlib.import_module(f"experiments.{family}.train").train
    with pytest.raises(UserError, match="data.colour"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists(), f"{family}: a refused config left files behind"


def test_the_export_is_the_model(family, tmp_path):
    """5. The exported function equals `apply`, for other batch sizes than any it was traced with."""
    e = experiment(family)
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    path = tmp_path / "predict.stablehlo"
    path.write_bytes(stablehlo.export(e.predictor, now.variables))
    assert export.compare(e.predictor, now.variables, path) < 1e-5


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
    """6. Ahead of time for a v5e 2x2, with no TPU."""
    pytest.importorskip("libtpu", reason="needs libtpu: Linux on x86-64 only")
    env = {
        **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", AOT, family], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "TPU" in done.stdout, f"{family}: {done.stderr[-2000:]}"


def test_the_tables_are_what_the_logs_say(family):
    """7. Its README's table is what its committed logs say."""
    assert [p for p in verify.problems() if family in p] == []
    readme = (ROOT / "experiments" / family / "README.md").read_text()
    assert len(readme.splitlines()) > 10, f"{family}: its README says nothing"


def test_metric_log_is_whole(family, tmp_path):
    """Every logging step stands once, in order. The step was compiled once for each shape of a batch, and not again."""
    said = finish(child(family, tmp_path / "run", steps=12, JAX_LOG_COMPILES="1"))
    train = experiment(family).train
    batches = [train.spec, *(train.batch(step) for step in range(12))]
    assert said.count("Finished XLA compilation of jit(step)") == len({str(jax.tree.map(np.shape, b)) for b in batches})
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == [4, 8, 12]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
