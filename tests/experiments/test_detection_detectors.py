"""DETR, Faster R-CNN and SSD through the family's own step: they learn, and read nothing of what fills up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection import train
from research.core import config, mesh, state
from research.evals.detection import iou
from research.interop import stablehlo
from research.util.errors import UserError

DETECTORS = ("detr", "faster_rcnn", "ssd")


@pytest.fixture(scope="module", params=DETECTORS)
def trained(request):
    """An experiment, its step, a batch, and the state before training."""
    e = train.build(config.load(f"detection/tiny_{request.param}", ["optim.schedule=constant"]))
    one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        start = state.create(e.init_fn, e.tx, 0, one)
        yield e, start, next(iter(e.train.on_device(one, 0, 1)))


def step(e, now, batch):
    """One of e's steps from a copy of the state -> the state, the means of the metrics."""
    now, metrics = e.train_step(jax.tree.map(jnp.copy, now), batch)
    return now, {name: float(value[0] / value[1]) for name, value in metrics.items() if name != "bad"}


def test_it_finds_the_boxes_of_one_batch(trained):
    """After 200 steps on it the best box of a picture is one of its boxes, of the right class, in nine of ten pictures."""
    e, now, batch = trained
    losses = []
    for _ in range(200):
        now, metrics = e.train_step(jax.tree.map(jnp.copy, now) if not losses else now, batch)
        losses.append(metrics["loss"][0] / metrics["loss"][1])
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.35 * losses[0]
    found = jax.jit(e.predictor.fn)(now.variables, {name: batch[name] for name in ("image", "size")})
    right = 0
    for i in range(len(batch["image"])):
        real = np.asarray(batch["box_mask"][i]) > 0
        overlaps = iou(np.asarray(found["boxes"][i, :1]), np.asarray(batch["boxes"][i])[real])[0]
        right += any((overlaps > 0.5) & (np.asarray(batch["labels"][i])[real] == int(found["labels"][i, 0])))
    assert right >= 0.9 * len(batch["image"])


def test_what_fills_up_is_not_read(trained):
    """Any numbers in the rows of mask 0 give the same loss and the same parameters."""
    e, now, batch = trained
    filler = 1 - batch["box_mask"]
    other = dict(batch, boxes=batch["boxes"] + filler[..., None] * jnp.array([3.0, 4, 19, 22]))
    other["labels"] = jnp.where(filler > 0, 5, batch["labels"])
    (a, first), (b, second) = step(e, now, batch), step(e, now, other)
    assert first == second
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_order_of_pictures_and_boxes_means_nothing(trained):
    e, now, batch = trained
    if e.cfg.model.name == "faster_rcnn":
        pytest.skip("a picture's sample is drawn by its place")
    order = jnp.array([2, 0, 3, 1])
    other = {name: batch[name][::-1] for name in batch}
    for name in ("boxes", "labels", "box_mask"):
        other[name] = other[name][:, order]
    (a, first), (b, second) = step(e, now, batch), step(e, now, other)
    assert second == pytest.approx(first, rel=1e-4)
    worst = max(
        float(abs(x - y).max()) for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True)
    )
    assert worst < 1e-5  # the first step's learning rate is 0: of the optimiser's moments, then
    moments = zip(jax.tree.leaves(a.opt), jax.tree.leaves(b.opt), strict=True)
    assert all(np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in moments)


def test_it_is_exported_for_any_number_of_pictures(trained):
    e, now, _ = trained
    exported = stablehlo.export(e.predictor, now.variables)
    assert {str(shape.shape[0]) for shape in exported.out_avals} == {"b"}


@pytest.mark.parametrize("name", ["tiny", *(f"tiny_{name}" for name in DETECTORS)])
def test_no_scatter_in_the_gradient(name):
    """Additions in an order that is not defined are why detectors train to other numbers on a GPU each time."""
    e = train.build(config.load(f"detection/{name}"))
    detector, batch = train.DETECTORS[e.cfg.model.name][1], e.train.batch(0)
    variables = dict(jax.eval_shape(e.init_fn, jax.random.key(0)))

    def objective(params, model_state, batch):
        options = detector.Loss(**dict(e.cfg.loss))
        terms, _ = detector.loss(e.model, params, model_state, batch, jax.random.key(0), options)
        return sum(value for value, *_ in terms.values())

    text = jax.jit(jax.grad(objective)).lower(variables.pop("params"), variables, batch).as_text()
    assert "stablehlo.convolution" in text
    assert "scatter" not in text


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("tiny", "model.name=ssd", "model.name = 'ssd' needs loss.overlap"),
        ("tiny_detr", "model.width=18", "model.width = 18"),
        ("tiny_detr", "model.queries=0", "model.queries = 0"),
        ("tiny_detr", "loss.none=2.0", "loss.none = 2.0"),
        ("tiny_faster_rcnn", "loss.regions=17", "loss.regions = 17"),
        ("tiny_faster_rcnn", "loss.anchor_low=0.8", "loss.anchor_low = 0.8"),
        ("tiny_faster_rcnn", "model.ratios=(0.0,)", "model.ratios"),
        ("tiny_ssd", "model.smallest=0.7", "model.smallest = 0.7"),
        ("tiny_ssd", "data.size=30", "largest stride is 4"),
    ],
)
def test_bad_values(name, change, fault):
    with pytest.raises(UserError, match=fault):
        train.build(config.load(f"detection/{name}", [change]))
