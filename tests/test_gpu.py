"""What only a GPU can show: `almanac test --gpu`."""

import json

import jax
import numpy as np
import pytest

from research.core import config, mesh, state
from research.run import reopen
from research.run.checkpoint import Checkpoints
from tools.verbs import train

pytestmark = pytest.mark.gpu
FAMILIES = ("detection", "gan", "image_classification", "language_model")


@pytest.mark.parametrize("family", FAMILIES)
def test_gpu_agrees_with_cpu(family):
    """Four steps from the same state: float32 losses within 1e-3 (other kernels, other orders of summing)."""
    e = reopen.build(family, config.load(f"{family}/tiny"))
    seen = {}
    with jax.default_matmul_precision("highest"):
        for platform in ("cpu", jax.default_backend()):
            one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices(platform)[:1])
            step = type(e.train_step)(e.train_step.fn)
            with jax.set_mesh(one):
                now = state.create(e.init_fn, e.tx, 0, one)
                rows = []
                for batch in e.train.on_device(one, 0, 4):
                    now, metrics = step(now, batch)
                    rows.append({k: float(v[0]) / float(v[1]) for k, v in metrics.items() if k.endswith("loss")})
            seen[platform] = rows
    for a, b in zip(seen["cpu"], seen[jax.default_backend()], strict=True):
        assert b == pytest.approx(a, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_resume_is_exact_with_deterministic_kernels(family, tmp_path):
    """Needs XLA_FLAGS=--xla_gpu_deterministic_ops=true, which `.ci/gpu` sets."""
    for name, stops in (("whole", [12]), ("parts", [5, 12])):
        for stop in stops:
            cfg = [f"num_steps={stop}", "optim.schedule=constant", "save_every=5"]
            folder = tmp_path / name
            train.trainer(family)(config.load(f"{family}/tiny", cfg), folder, resume="force")
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()][-1]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    e = reopen.build(family, config.load(f"{family}/tiny"))
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    target, _ = state.abstract(e.init_fn, e.tx, one)
    a, b = (Checkpoints(tmp_path / name / "checkpoints").restore(target)[0] for name in ("whole", "parts"))
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
