"""The contract in one process: what every family promises, on its `tiny` config, always tested.

Each failure says which promise was broken; see "The contract" in docs/new-family.md.
"""

import importlib
import re
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from research.core import config, mesh, state
from research.core.guard import Guard
from research.data import codecs
from research.interop import stablehlo
from research.serving import bundle as bundles
from research.serving import packing
from research.util.errors import UserError
from tests.contract.families import FAMILIES, experiment
from tools.verbs import verify

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.parametrize("family", FAMILIES)


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
    """One device, eight data-parallel, FSDP and, where the family states it, tensor-parallel agree."""
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


def quiet(family):
    """Overrides without dropout: each microbatch draws its own."""
    keys = config.flatten(config.load(f"{family}/tiny"))
    return [f"{key}=0.0" for key, value in keys.items() if "dropout" in key and value]


def test_microbatches_are_the_batch(family):
    """Accumulating over microbatches makes the step of the whole batch, or is refused with the reason."""
    if reason := experiment(family).whole_batch:
        with pytest.raises(UserError, match=re.escape(f"optim.accumulate = 2: {reason}; set it to 1")):
            experiment(family, "optim.accumulate=2")
        return
    one = {"data": 1, "model": 1}
    (rows, whole), (parts, other) = (
        losses(experiment(family, *quiet(family), *more), one, (), 1) for more in ([], ["optim.accumulate=2"])
    )
    for name, value in rows[0].items():
        assert parts[0][name] == pytest.approx(value, rel=1e-4, abs=1e-6), f"{family}: {name}"
    worst = max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), whole, other)))
    assert worst < 1e-4, f"{family}: parameters differ by {worst:.1e}"


def test_it_overfits_one_batch(family):
    """Overfits a single batch."""
    e = experiment(family, "num_steps=200", "optim.schedule=constant")
    if e.no_fixed_batch:
        pytest.skip(f"{family}: {e.no_fixed_batch}")
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


def test_keys_are_known_and_read(family, tmp_path):
    """An unknown key, and a key that nothing reads, are errors that name the key."""
    with pytest.raises(UserError, match=re.escape("num_step'")):
        config.load(f"{family}/tiny", ["num_step=3"])
    cfg = config.load(f"{family}/tiny")
    with cfg.unlocked():
        cfg.data.colour = "red"
    train = importlib.import_module(f"experiments.{family}.train").train
    with pytest.raises(UserError, match="data.colour"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists(), f"{family}: a refused config left files behind"


def test_the_bundle_is_the_model(family, tmp_path):
    """What a bundle computes and says equals `apply` and `decode`, for other batch sizes than any it was traced with."""
    e = experiment(family)
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    manifest = packing.pack(tmp_path / "bundle", e, now, {"name": f"{family}/tiny"})
    assert manifest["parity"]["stablehlo"]["largest_difference"] < 1e-5
    bundle, codec = bundles.open_bundle(tmp_path / "bundle"), e.predictor.codec
    assert codecs.to_json(bundle.codec) == codecs.to_json(codec)
    inputs = stablehlo.example(codec, 3, 8, jax.random.key(0))
    expected, found = jax.device_get((jax.jit(e.predictor.fn)(now.variables, inputs), bundle.fn(inputs)))
    chex.assert_trees_all_close(found, expected, atol=1e-5)
    rows = {name: x[:1] for name, x in found.items()}
    assert bundle.codec.decode(rows) == codec.decode(rows)


def test_the_tables_are_what_the_logs_say(family):
    """Its README's table is what its committed logs say."""
    assert [p for p in verify.problems() if family in p] == []
    readme = (ROOT / "experiments" / family / "README.md").read_text()
    assert len(readme.splitlines()) > 10, f"{family}: its README says nothing"
