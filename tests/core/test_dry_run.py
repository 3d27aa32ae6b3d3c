"""What is wrong with a step is told from shapes alone: by name, in one line, and before anything compiles or is computed."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from research.core import config, dry_run, state
from research.core import mesh as mesh_lib
from research.core.metrics import pair
from research.core.step import make_eval_step, make_train_step
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.run import reopen
from research.run.run import Run
from research.util.errors import UserError


def loss(params, model_state, batch, key):
    error = pair(np.float32(1.0) * (batch["x"] @ params["w"] - batch["y"]) ** 2)
    return {"loss": (*error, 1.0)}, ({"loss": error}, model_state)


def predict(variables, batch):
    return {"y": batch["x"] @ variables["params"]["w"]}


def measure(outputs, batch):
    return {"error": pair(abs(outputs["y"] - batch["y"]), batch["mask"])}


@pytest.fixture(scope="module")
def whole():
    """An experiment whose steps are as they should be."""
    e = reopen.build("image_classification/tiny", config.load("image_classification/tiny", ["optim.weight_decay=0"]))
    data = Arrays({"x": np.ones((16, 3), "f"), "y": np.ones(16, "f")})
    return dataclasses.replace(
        e,
        train=TrainBatches(data, 8, 0),
        evals={"valid": EvalBatches(data, 8)},
        init_fn=lambda key: {"params": {"w": jax.random.normal(key, (3,))}},
        train_step=make_train_step(loss, e.tx),
        eval_step=make_eval_step(predict, measure),
        evaluator=None,
        load_pretrained=None,
        data=None,
        built=None,
    )


def names(e, **options):
    mesh = mesh_lib.make_mesh({"data": -1})
    target = state.abstract(e.init_fn, e.tx, mesh)[0]
    with jax.set_mesh(mesh):
        return dry_run.metric_names(e, target, mesh, ["valid"], **options)


def test_the_names_of_a_splits_means(whole, monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)  # nothing compiles
    assert names(whole) == {"valid": ["error"]}
    assert names(dataclasses.replace(whole, eval_step=None)) == {}


def no_scalar(params, model_state, batch, key):
    terms, aux = loss(params, model_state, batch, key)
    return {**terms, "decay": (params["w"], 1.0, 1.0)}, aux


def misread(params, model_state, batch, key):
    return loss(params, model_state, {**batch, "x": batch["xx"]}, key)


@pytest.mark.parametrize(
    ("train", "evaluation", "words"),
    [
        (no_scalar, measure, "loss term 'decay' has shapes sum [3], weight [], coefficient []: want scalars"),
        (misread, measure, "the training step reads an array 'xx', which its batches lack; "),
        (loss, lambda o, b: {"error": (o["y"], b["mask"].sum())}, "metric 'error' has shapes sum [8], weight []"),
        (loss, lambda o, b: {"error": o["y"].mean()}, "metric 'error' is an array of shape []: want (sum, weight)"),
        (loss, lambda o, b: measure(o, {**b, "y": b["target"]}), "the evaluation of valid reads an array 'target'"),
        (loss, lambda o, b: {"error": pair(o["y"], b["x"][0])}, "weights of shape [3] for values of [8]"),
    ],
)
def test_mistakes_are_named_before_a_run_computes(whole, tmp_path, train, evaluation, words, monkeypatch):
    e = dataclasses.replace(
        whole, train_step=make_train_step(train, whole.tx), eval_step=make_eval_step(predict, evaluation)
    )
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    with Run(e, tmp_path / "run") as run, pytest.raises(UserError, match=re.escape(words)) as caught:
        run.start()
    assert "\n" not in str(caught.value)


def test_a_key_error_of_the_familys_own_stays_one(whole):
    def broken(params, model_state, batch, key):
        return loss(params, model_state, batch, {}["x"])

    with pytest.raises(KeyError):
        names(dataclasses.replace(whole, train_step=make_train_step(broken, whole.tx)))


def test_without_training_its_step_is_not_traced(whole):
    e = dataclasses.replace(whole, train_step=make_train_step(no_scalar, whole.tx))
    assert names(e, trains=False) == {"valid": ["error"]}
