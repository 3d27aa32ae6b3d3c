"""What the family's loss and prediction do besides: auxiliary heads, and views of a picture."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestCentroid

from experiments.image_classification import probe, train
from experiments.image_classification.configs.base import base
from research.core import config
from research.data.images import augment
from research.run.run import Run
from research.util.errors import UserError

IMAGES = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)), jnp.float32)
LABELS = jnp.array([0, 1, 1])


def logits(variables, image, scale=1.0):
    """Two classes: the left and the right half of the picture."""
    halves = jnp.stack([image[:, :, :2].mean((1, 2, 3)), image[:, :, 2:].mean((1, 2, 3))], -1)
    return scale * variables["params"]["weight"] * halves


VARIABLES = {"params": {"weight": jnp.float32(5.0)}}


def test_auxiliary_heads_are_further_terms_and_no_metric():
    def apply(variables, image, train, mutable, rngs):
        return (logits(variables, image), [logits(variables, image, 2.0), logits(variables, image, 0.0)]), {}

    model = SimpleNamespace(apply=apply, auxiliary=0.3)
    batch = {"image": IMAGES, "label": LABELS}
    make = partial(train.loss, augment=augment.make({}, 2))
    terms, (metrics, _) = make(model, VARIABLES["params"], {}, batch, jax.random.key(0))
    assert terms.keys() == {"loss", "auxiliary1", "auxiliary2"} and metrics.keys() == {"loss", "accuracy"}
    value, weight, coefficient = terms["auxiliary2"]  # of equal logits
    assert (float(value), float(weight), coefficient) == (pytest.approx(3 * np.log(2)), 3, 0.3)
    assert terms["loss"][2] == 1 and float(metrics["loss"][0]) == float(terms["loss"][0])


def test_views_are_averaged():
    model = SimpleNamespace(apply=logits)
    one, two = (
        train.predict(model, VARIABLES, {"image": IMAGES}, views=augment.make_views({"views": views}, 2))
        for views in (None, "flip")
    )
    np.testing.assert_allclose(one["probabilities"], jax.nn.softmax(logits(VARIABLES, IMAGES)), rtol=1e-6)
    # A mirrored picture has the other class's logit: the mean of p and 1 - p is a half.
    np.testing.assert_allclose(two["probabilities"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(two["logits"], np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment": {"mean": (0.1, 0.2, 0.3)}}, "augment.mean = .* has 3 numbers; the pictures have channels: 1"),
        ({"model": {"name": "vit"}}, "model.patch = 16: pictures of 8 x 8 pixels are no whole number of patches"),
        ({"model": {"name": "vit", "patch": 8}, "augment": {"pad": 2}}, "pictures of 12 x 12 pixels"),
        ({"augment": {"rand_operations": ("turn",)}}, "augment.rand_operations: 'turn' is unknown"),
        ({"augment": {"mixup": -1.0}}, "augment.mixup is -1.0"),
    ],
)
def test_what_does_not_fit_the_pictures_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        train.build(base(num_steps=10, **changes))


def tiny(*changes):
    return config.load("image_classification/tiny", ["mesh.data=1", "augment.erase=0.0", *changes])


@pytest.mark.slow
def test_a_frozen_trunk_stays_and_what_waits_resumes_to_the_bit(tmp_path):
    """Parameters and statistics of the frozen stem; the stages' parameters until step 8, over an interruption at step 6."""
    cfg = tiny("optim.freeze=^stem", "optim.unfreeze=(('^stage', 8),)", "optim.name=adamw", "log_every=2")
    whole, e = train.train(cfg, tmp_path / "whole"), train.build(cfg)
    with Run(e, tmp_path / "parts") as run:
        state = run.start()
        first = jax.device_get(state.variables)
        for batch in run.batches():
            state, metrics = e.train_step(state, batch)
            run.log("train", metrics)
            state = run.save(state)
            if run.done == 6:  # the last checkpoint
                break
        now = jax.device_get(state.variables)
        run.finish(state)
    same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), first, now)
    for layer, leaves in same["params"].items():
        assert set(jax.tree.leaves(leaves)) == {layer != "head"}, layer
    for layer, leaves in same["batch_stats"].items():
        assert set(jax.tree.leaves(leaves)) == {layer == "stem_norm"}, layer
    resumed = train.train(cfg, tmp_path / "parts")
    for a, b in zip(*(jax.tree.leaves((s.variables, s.opt)) for s in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(a, b)
    last = jax.device_get(whole.variables)
    assert not np.array_equal(
        first["params"]["stage0_block0"]["out"]["kernel"], last["params"]["stage0_block0"]["out"]["kernel"]
    )
    jax.tree.map(np.testing.assert_array_equal, first["batch_stats"]["stem_norm"], last["batch_stats"]["stem_norm"])


def test_the_probes_embeddings_are_what_the_head_reads():
    """The head's kernel and bias on them are the logits; scikit-learn's classifiers of them are the probe's numbers."""
    e = train.build(tiny("model.name=convnet", "model.hidden=16", "data.classes=0,1,2", "probe=(2,)", "macro_f1=True"))
    state = SimpleNamespace(variables=e.init_fn(jax.random.key(0)))
    embed = jax.jit(probe.embedding(e.predictor.fn))
    image = e.data.evals["test"].batch(0)["image"]
    read, head = embed(state.variables, {"image": image}), state.variables["params"]["head"]
    logits = e.predictor.fn(state.variables, {"image": image})["logits"]
    np.testing.assert_allclose(read @ head["kernel"] + head["bias"], logits, rtol=1e-4, atol=1e-5)

    assert e.at_end == ("probe",) and e.evaluator(state, "valid", None, lambda: None).values == {}
    values = e.evaluator(state, "probe", None, lambda: None).values
    parts = {"train": e.data.train.source, "test": e.data.evals["test"].source}
    rows = {name: part.gather(np.arange(len(part)), 0) for name, part in parts.items()}
    x = {name: np.asarray(embed(state.variables, {"image": part["image"]}), np.float64) for name, part in rows.items()}
    theirs = NearestCentroid().fit(x["train"], rows["train"]["label"]).predict(x["test"])
    assert values["prototypes_test_accuracy"] == pytest.approx(np.mean(theirs == rows["test"]["label"]))
    assert values["prototypes_test_macro_f1"] == pytest.approx(f1_score(rows["test"]["label"], theirs, average="macro"))
    assert values["linear_test_accuracy"] > values["prototypes_test_accuracy"] > values["2_shot_test_accuracy"] > 0.15
    assert train.build(tiny()).evaluator is None


def test_a_model_without_a_head_has_no_embeddings():
    with pytest.raises(UserError, match="no last layer `head`"):
        probe.embedding(lambda variables, inputs: inputs)({}, {})
