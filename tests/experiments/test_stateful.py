"""A language model whose state goes from batch to batch: what the contract promises of `tiny`, on `tiny_lstm`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.language_model import train as family
from research.core import config, mesh, state
from research.core.experiment import Experiment
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEXT = "the quick brown fox jumps over the lazy dog\n" * 40
SMALL = ("model.num_layers=1", "model.width=16", "data.source=files")


@pytest.fixture
def small(tmp_path):
    """A config's overrides: a short text, so that an epoch of `tiny_lstm` has 12 batches and a sweep 2."""
    (tmp_path / "text.txt").write_text(TEXT)
    return [*SMALL, f"data.path={tmp_path / 'text.txt'}"]


def load(*changes):
    return config.load("language_model/tiny_lstm", changes)


def run(e: Experiment, steps: int, axes: dict, rules: tuple = ()) -> tuple[list, state.TrainState]:
    """Each step's loss, and the state after the last, on a mesh."""
    grid = mesh.make_mesh(axes, jax.devices()[: int(np.prod(list(axes.values())))])
    step = type(e.train_step)(e.train_step.fn)
    with jax.set_mesh(grid):
        now = state.create(e.init_fn, e.tx, 0, grid, (*rules, *e.rules), False)
        losses = []
        for batch in e.train.on_device(grid, 0, steps):
            now, metrics = step(now, batch)
            losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
    return losses, now


def test_the_state_is_carried_and_reset(small):
    """After k batches of an epoch it is what one long reading of them leaves; a new epoch begins with none."""
    still = ["optim.peak_lr=0", *(f"model.{name}=0" for name in family.recurrent_lm.DROPOUTS)]
    e = family.build(load(*small, *still))
    model = e.model
    per_epoch = e.train.epoch // 8
    assert per_epoch == 12
    for steps, first in ((3, 0), (per_epoch, 0), (per_epoch + 2, per_epoch)):
        _, now = run(e, steps, {"data": 1})
        tokens = np.concatenate([e.train.batch(k)["tokens"] for k in range(first, steps)], axis=1)
        _, cache = model.apply({"params": now.params}, tokens, cache=model.init_cache(8))
        want, got = cache["layers"]["layer_0"], now.model_state["carry"]["layer_0"]
        np.testing.assert_allclose(got["h"], want["h"], atol=1e-6)
        np.testing.assert_allclose(got["c"], want["c"], atol=1e-6)


def test_a_sweep_is_one_reading_of_the_text(small):
    """At one row the loss is that of a single pass over the whole text; a second sweep starts anew."""
    e = family.build(load(*small, "data.eval_batch_size=1", "data.length=7"))
    data, model = e.data, e.model
    now = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    logits = model.apply({"params": now.params}, jnp.asarray(data.text.valid[None, :-1], jnp.int32))
    logp = jax.nn.log_softmax(logits[0])[np.arange(len(data.text.valid) - 1), data.text.valid[1:]]
    sweep = e.evals["valid"]
    for _ in range(2):
        pairs = [e.eval_step(now, sweep.batch(k))["loss"] for k in range(len(sweep))]
        assert sum(float(w) for _, w in pairs) == len(data.text.valid) - 1
        assert sum(float(s) for s, _ in pairs) == pytest.approx(-float(logp.sum()), rel=1e-5)


def test_the_mesh_changes_nothing(small):
    e = family.build(load(*small))
    alone, now = run(e, 4, {"data": 1})
    for rules in ((), e.sharding["fsdp"]):
        losses, other = run(e, 4, {"data": 8}, rules)
        np.testing.assert_allclose(losses, alone, rtol=1e-5)
        for name, part in other.model_state["carry"]["layer_0"].items():
            assert tuple(part.sharding.spec) == ("data", None)
            np.testing.assert_allclose(part, now.model_state["carry"]["layer_0"][name], atol=1e-5)


def test_a_run_that_broke_off_goes_on_to_the_bit(small, tmp_path, monkeypatch):
    """It breaks off in the evaluation after step 6, so it goes on from the checkpoint of step 3, with that step's state."""
    evaluate = family.split_metrics

    def broken(values, *, perplexity):
        raise RuntimeError("the power is gone")

    small += ["mesh.data=1", "sample.length=2"]
    family.train(load(*small), tmp_path / "whole")
    monkeypatch.setattr(family, "split_metrics", broken)
    with pytest.raises(RuntimeError, match="power"):
        family.train(load(*small), tmp_path / "broken")
    monkeypatch.setattr(family, "split_metrics", evaluate)
    family.train(load(*small), tmp_path / "broken")
    whole, broken = (tmp_path / name / "metrics.jsonl" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()
    assert [json.loads(row)["step"] for row in whole.read_text().splitlines()] == [4, 6, 8, 12, 12]


@pytest.mark.slow
def test_two_hosts_are_one(small, tmp_path):
    words = [sys.executable, "-m", "tools.cli", "train", "language_model/tiny_lstm", *(f"--config.{c}" for c in small)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    for name, more, devices in (("two", ["--local-hosts=2"], 1), ("one", [], 2)):
        env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        command = [*words, f"--workdir={tmp_path / name}", *more]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        assert "2 x cpu, mesh data 2" in done.stdout
    two, one = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("two", "one"))
    assert two == one


def test_it_overfits_one_batch(small):
    """An epoch's first, whose state begins anew each time."""
    e = family.build(load(*small, "model.width=32", "optim.schedule=constant"))
    first = e.train.batch(0)
    e.train.batch = lambda step, rows=slice(None): {k: v[rows] for k, v in first.items()}
    losses, _ = run(e, 150, {"data": 1})
    assert np.mean(losses[-5:]) < 0.35 * losses[0]


def test_perplexity_is_exp_of_the_mean(small):
    of_words = family.build(load(*small, "data.tokenizer=word")).split_metrics
    assert of_words({"loss": 2.0}) == {"loss": 2.0, "perplexity": pytest.approx(7.389056, rel=1e-6)}
    assert family.build(load(*small)).split_metrics({"loss": 2.0}) == {"loss": 2.0}


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("tiny", ["data.carry=True"], "data.carry = True: a gpt has no state to carry"),
        (
            "tiny_lstm",
            ["optim.accumulate=2"],
            "optim.accumulate = 2: a state is carried from batch to batch; set it to 1",
        ),
        ("tiny_lstm", ["model.name=lstn"], "model.name = 'lstn'; did you mean 'lstm'?"),
        ("tiny_lstm", ["model.name=gru", "model.forget_bias=1.0"], "no config key 'model.forget_bias'"),
        ("tiny_lstm", ["data.batch_size=100000"], "data.batch_size = 100000"),
    ],
)
def test_bad_configs(name, changes, words):
    with pytest.raises(UserError) as caught:
        family.build(config.load(f"language_model/{name}", changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
