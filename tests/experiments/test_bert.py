"""BERT's two tasks by hand arithmetic, texts filled in, and an encoder moved into another model."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from experiments.bert import train as family
from research.core import config, mesh, metrics, state
from research.run import reopen
from tools import cli

rng = np.random.default_rng(0)


def test_the_loss_is_the_sum_of_both_tasks():
    logits = {"mlm": rng.normal(size=(3, 2, 5)).astype("f"), "nsp": rng.normal(size=(3, 2)).astype("f")}
    targets, weights, follows = (
        np.array([[1, 4], [0, 0], [2, 3]]),
        np.array([[1, 1], [1, 0], [1, 1]]),
        np.array([0, 1, 1]),
    )
    batch = {"targets": targets, "target_mask": weights.astype("f"), "next": follows}
    mlm = -np.take_along_axis(log_softmax(logits["mlm"], -1), targets[..., None], -1)[..., 0]
    nsp = -np.take_along_axis(log_softmax(logits["nsp"], -1), follows[:, None], -1)[:, 0]
    terms, pairs = family.both_tasks(logits, batch, jnp.ones(3))
    values = metrics.reduce([pairs])
    assert values["mlm_loss"] == pytest.approx((mlm * weights).sum() / 5, rel=1e-5)
    assert values["nsp_loss"] == pytest.approx(nsp.mean(), rel=1e-5)
    assert values["mlm_accuracy"] == pytest.approx(((logits["mlm"].argmax(-1) == targets) * weights).sum() / 5)
    assert values["nsp_accuracy"] == pytest.approx((logits["nsp"].argmax(-1) == follows).mean())
    assert (
        float(metrics.objective(terms))
        == values["loss"]
        == pytest.approx(values["mlm_loss"] + values["nsp_loss"], rel=1e-6)
    )
    # The second row fills up a batch: nothing of it counts.
    values = metrics.reduce([family.batch_metrics(logits, {**batch, "mask": jnp.array([1.0, 0.0, 1.0])})])
    assert values["mlm_loss"] == pytest.approx(mlm[[0, 2]].mean(), rel=1e-5)
    assert values["nsp_loss"] == pytest.approx(nsp[[0, 2]].mean(), rel=1e-5)


def test_a_pre_trained_encoder_moves_into_another_model_by_path(tmp_path):
    small = ["--config.num_steps=2", "--config.optim.warmup=1", "--config.eval_every=2"]
    assert cli.main(["train", "bert/tiny", f"--workdir={tmp_path / 'run'}", *small]) == 0
    _, theirs, _ = reopen.load(tmp_path / "run", "last")
    words = [
        f"pretrained.weights={tmp_path / 'run'}",
        "pretrained.fresh=^head/",
        "pretrained.resize=tokens",
        "data.vocab_size=320",
    ]
    e = reopen.build("token_labelling", config.load("token_labelling/tiny", words))
    fresh = state.create(e.init_fn, e.tx, 0, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    lines: list[str] = []
    ours = e.load_pretrained(fresh, SimpleNamespace(note=lines.append, writes=False))
    jax.tree.map(np.testing.assert_array_equal, ours.params["encoder"], theirs.params["encoder"])
    jax.tree.map(np.testing.assert_array_equal, ours.params["head"], fresh.params["head"])
    report = "\n".join(lines)
    assert f"{len(jax.tree.leaves(ours.params['encoder']))} arrays" in report
    assert "fresh    head/bias, head/kernel" in report and "left out mlm/" in report
