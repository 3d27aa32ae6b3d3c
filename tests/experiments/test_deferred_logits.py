"""Families whose logits are large: the chunked loss trains and measures what the plain one does."""

import jax
import numpy as np
import pytest

from research.core import config, mesh, state
from research.losses import chunked
from research.nn.logits import DeferredLogits
from research.run import reopen

CASES = {
    "gpt": ("language_model", "tiny", ["model.dropout=0.1"]),
    "untied": ("language_model", "tiny", ["model.tied=False"]),
    "packed": ("language_model", "tiny", ["data.packing=True"]),
    "lstm": ("language_model", "tiny_lstm", []),
    "next token alone": ("language_model", "tiny_lstm", ["data.stride=3", "data.carry=None"]),
    "bert": ("bert", "tiny", []),
    "translation": ("translation", "tiny", ["loss.smoothing=0.1"]),
}


def run(case):
    """Metrics of three steps and of an evaluation batch, and the parameters after."""
    family, name, more = CASES[case]
    e = reopen.build(family, config.load(f"{family}/{name}", more))
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        now, rows = state.create(e.init_fn, e.tx, 0, one), []
        for batch in e.train.on_device(one, 0, 3):
            now, metrics = e.train_step(now, batch)
            rows.append({k: v for k, v in metrics.items() if k != "bad"})
        rows.append(e.eval_step(now, next(iter(e.evals.values())).batch(0)))
        return jax.device_get((rows, now.params))


@pytest.mark.parametrize("case", CASES)
def test_chunks_change_nothing_but_the_order_of_sums(case, monkeypatch):
    rows, params = run(case)
    used, chunks = [], chunked.cross_entropy
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 2**10)
    monkeypatch.setattr(chunked, "cross_entropy", lambda *a: used.append(a[0].shape) or chunks(*a))
    others, theirs = run(case)
    assert len(used) == 2, "traced once for training and once for evaluation"
    for a, b in zip(rows, others, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert np.asarray(b[name]).tolist() == pytest.approx(np.asarray(a[name]).tolist(), rel=2e-5), name
    worst = max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), params, theirs)))
    assert worst < 1e-3  # Adam divides by the gradient's size: where that is rounding, so is the step


def test_the_last_tokens_logits():
    """`last` is a slice of the whole array."""
    hidden, matrix = jax.random.normal(jax.random.key(0), (2, 5, 3)), jax.random.normal(jax.random.key(1), (3, 7))
    deferred = DeferredLogits(hidden, matrix, np.arange(7.0), axis=0)
    np.testing.assert_allclose(deferred.last(2).array(), deferred.array()[:, -2:], rtol=1e-6)
    assert deferred.last(5) is deferred
