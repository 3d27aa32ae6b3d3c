import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.algorithms import finetune, max_norm
from research.core import mesh as mesh_lib
from research.core import optim
from research.core import state as state_lib
from research.core.config import OPTIM
from research.core.metrics import objective, pair
from research.core.step import advance, make_eval_step, make_rngs, make_train_step, update
from research.util.errors import UserError

SGD = optax.sgd(0.1, momentum=0.9)
RNG = np.random.default_rng(0)
W1, W2 = RNG.normal(size=(4, 8)).astype("f"), RNG.normal(size=(8, 1)).astype("f")
BATCHES = [{"x": RNG.normal(size=(16, 4)).astype("f"), "y": np.ones(16, "f")} for _ in range(3)]


def init(key):
    return {"params": {"w1": jnp.array(W1), "b": jnp.zeros(8), "w2": jnp.array(W2)}}


def forward(params, x):
    return (jnp.tanh(x @ params["w1"] + params["b"]) @ params["w2"])[:, 0]


def as_terms(metrics):
    return {"loss": (*metrics["loss"], 1.0)}


def loss(params, model_state, batch, key):
    metrics = {"loss": pair((forward(params, batch["x"]) - batch["y"]) ** 2, batch.get("mask"))}
    return as_terms(metrics), (metrics, model_state)


def make_state(tx=SGD, init=init, mesh=1, rules=(), ema=False):
    return state_lib.create(init, tx, 0, mesh_lib.make_mesh({"data": mesh}), rules, ema)


def run(step, state, batches=BATCHES):
    """The last state, and each step's parameters and metrics on the host."""
    seen = []
    for batch in batches:
        state, metrics = step(state, batch)
        seen.append((jax.device_get(state.params), jax.device_get(metrics)))
    return state, seen


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


def exact_grads(params=None):
    params = init(None)["params"] if params is None else params
    return jax.jit(jax.grad(lambda p: objective(loss(p, {}, BATCHES[0], None)[0])))(params)


WHOLE, PARTS = make_train_step(loss, SGD), make_train_step(loss, SGD, accumulate=4)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones(16),
        RNG.integers(0, 2, 16),
        np.arange(16) % 4 != 2,  # one microbatch is empty
        np.arange(16) == 5,  # all but one are
        RNG.uniform(size=16),
    ],
)
def test_accumulating_is_the_gradient_of_the_whole_batch(mask):
    batches = [b | {"mask": mask.astype(np.float32)} for b in BATCHES]
    assert_close(run(WHOLE, make_state(), batches)[1], run(PARTS, make_state(), batches)[1])
    with pytest.raises(UserError, match="batch_size = 16 does not .* optim.accumulate = 3 parts"):
        make_train_step(loss, SGD, accumulate=3)(make_state(), batches[0])


def test_terms_of_different_weights_accumulate():
    """0.5 * sum(m (wx)^2) / sum(m) + 2 * sum(n w) / sum(n): by hand, whatever the parts' own weights are."""

    def loss(params, model_state, batch, key):
        squares, line = (
            pair(v, batch[k]) for k, v in (("m", (params["w"] * batch["x"]) ** 2), ("n", params["w"] * batch["x"]))
        )
        return {"squares": (*squares, 0.5), "line": (*line, 2.0)}, ({"loss": squares}, model_state)

    x, m, n = np.arange(1.0, 9), np.array([1, 0, 0, 0, 1, 1, 0, 1.0]), np.array([0, 3, 0, 1, 0, 0, 2, 0.0])
    batch = {k: v.astype(np.float32) for k, v in {"x": x, "m": m, "n": n}.items()}
    want = 3.0 * (m * x**2).sum() / m.sum() + 2 * (n * x).sum() / n.sum()
    for parts in (1, 2, 4, 8):
        state = make_state(init=lambda key: {"params": {"w": jnp.float32(3)}})
        new, _ = make_train_step(loss, SGD, accumulate=parts)(state, batch)
        rate = 3.0 - float(new.params["w"])
        assert rate == pytest.approx(0.1 * want, rel=1e-5), parts


@pytest.mark.parametrize("clip", [1e-2, 1e3])
def test_clipping_is_by_the_global_norm(clip):
    tx = optax.chain(optax.clip_by_global_norm(clip), SGD)
    _, ours = run(make_train_step(loss, SGD, clip_norm=clip), make_state())
    _, want = run(make_train_step(loss, tx), make_state(tx))
    assert_close(ours, want)
    norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(exact_grads())))
    assert ours[0][1]["grad_norm"] == (pytest.approx(float(norm), rel=1e-5), 1)  # before clipping


def test_clipping_is_by_the_norm_of_what_trains():
    """With all but the read-out frozen its gradient alone counts: by all of them it would be scaled down too far."""
    cfg = {**OPTIM, "name": "sgd", "peak_lr": 1.0, "schedule": "constant", "freeze": "^(w1|b)$"}
    tx, start = optim.make(cfg, 10), init(None)["params"]
    grads = exact_grads()
    own, total = (float(np.sqrt(sum(np.sum(np.square(g)) for g in gs))) for gs in ([grads["w2"]], grads.values()))
    assert own < 0.95 * total
    for clip in (own / 2, (own + total) / 2):
        state, seen = run(make_train_step(loss, tx, clip_norm=clip), make_state(tx), BATCHES[:1])
        assert seen[0][1]["grad_norm"][0] == pytest.approx(own, rel=1e-5)
        moved = jax.tree.map(lambda a, b: np.asarray(a - b), start, jax.device_get(state.params))
        assert np.linalg.norm(moved["w2"]) == pytest.approx(min(own, clip), rel=1e-5)
        assert not moved["w1"].any() and not moved["b"].any()


def test_the_norm_is_of_what_trains_at_this_step():
    cfg = {**OPTIM, "name": "sgd", "peak_lr": 0.0, "schedule": "constant", "unfreeze": (("^(w1|b)$", 1),)}
    tx, grads = optim.make(cfg, 10), exact_grads()  # at a rate of 0 those of both steps on one batch
    own, total = (float(np.sqrt(sum(np.sum(np.square(g)) for g in gs))) for gs in ([grads["w2"]], grads.values()))
    _, seen = run(make_train_step(loss, tx), make_state(tx), [BATCHES[0]] * 2)
    assert [float(metrics["grad_norm"][0]) for _, metrics in seen] == pytest.approx([own, total], rel=1e-5)


def test_no_gradient_is_computed_for_what_is_frozen():
    """One that would not be finite is therefore no reason to stop."""
    cfg = {**OPTIM, "name": "sgd", "peak_lr": 1.0, "schedule": "constant", "freeze": "^a$"}

    def root(params, model_state, batch, key):  # at 0 its slope is infinite
        value = jnp.sqrt(params["a"]) + 2 * params["b"]
        return {"loss": (value, 1.0, 1.0)}, ({"loss": (value, 1.0)}, model_state)

    for freeze, bad, b in (("^a$", -1, 1 - 2), ("", 0, 1)):
        tx = optim.make({**cfg, "freeze": freeze}, 10)
        state = make_state(tx, init=lambda key: {"params": {"a": jnp.float32(0), "b": jnp.float32(1)}})
        state, metrics = make_train_step(root, tx)(state, {})
        assert (int(metrics["bad"]), float(state.params["b"])) == (bad, b)


def test_what_trains_is_known_through_every_wrapper():
    cfg = {**OPTIM, "name": "sgd", "freeze": "head/bias"}
    params = {"h_0": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    wrapped = max_norm.wrap(finetune.make(cfg, {"layer_decay": 0.5, "unfreeze_every": 2}, 10), 3.0, "kernel")
    wanted = {"h_0": {"kernel": True}, "head": {"kernel": True, "bias": False}}
    assert optim.make(cfg, 10).trains(params) == wrapped.trains(params) == wanted


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda x: x.sum(), "the loss does not return (terms, (metrics, model_state))"),
        (
            lambda x: ({"a": x.sum()}, ({}, {})),
            "loss term 'a' is an array of shape []: want (sum, weight, coefficient)",
        ),
        (lambda x: ({"a": (x, 1.0, 1.0)}, ({}, {})), "loss term 'a' has shapes sum [16], weight [], coefficient []"),
        (lambda x: ({"a": (x.sum(), 1.0, 1.0)}, {}), "terms without (metrics, model_state)"),
        (lambda x: ({"a": (x.sum(), 1.0, 1.0)}, ({}, {})), "the loss's metrics lack 'loss'; there are none"),
        (
            lambda x: ({"a": (x.sum(), 1.0, 1.0)}, ({"loss": (x, x.sum())}, {})),
            "metric 'loss' has shapes sum [16], weight []",
        ),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_loss_of_another_form_is_named(returned, words, parts):
    step = make_train_step(lambda p, s, batch, key: returned(forward(p, batch["x"])), SGD, accumulate=parts)
    words = words.replace("[16]", f"[{16 // parts}]")
    with pytest.raises(UserError, match=re.escape(words)):
        jax.eval_shape(step.fn, make_state(), BATCHES[0])


def test_bfloat16_is_the_compute_dtype_alone():
    dtypes = {}

    def spying_loss(params, model_state, batch, key):
        dtypes["compute"] = {x.dtype.name for x in jax.tree.leaves((params, batch))}
        return loss(params, model_state, batch, key)

    def spy(grads, state, params):
        dtypes["update"] = {x.dtype.name for x in jax.tree.leaves((grads, params))}
        return jax.tree.map(jnp.negative, grads), state

    tx = optax.GradientTransformation(optax.identity().init, spy)
    step = make_train_step(spying_loss, tx, dtype="bfloat16", accumulate=2)
    state, metrics = step(make_state(tx), BATCHES[0])
    assert dtypes == {"compute": {"bfloat16"}, "update": {"float32"}}
    assert {x.dtype.name for x in jax.tree.leaves((state.params, metrics["loss"]))} == {"float32"}
    exact = exact_grads()
    for name, before in init(None)["params"].items():
        error = jnp.linalg.norm(before - state.params[name] - exact[name])
        assert 1e-5 < error / jnp.linalg.norm(exact[name]) < 0.05  # bfloat16 has 8 bits
    with pytest.raises(UserError, match="dtype = 'float16'"):
        make_train_step(loss, SGD, dtype="float16")(make_state(), BATCHES[0])


def test_the_state_is_donated_and_keeps_its_shardings_and_averages():
    rules = (("w1$", (None, "data")), ("b$", ("data",)))
    first = make_state(mesh=8, rules=rules, ema=True)
    places = jax.tree.map(lambda x: x.sharding, first)
    want = init(None)["params"]
    batches = [mesh_lib.to_device(b, first.step.sharding.mesh, 16) for b in BATCHES]
    last, seen = run(make_train_step(loss, SGD, ema=0.9), first, batches)
    assert all(x.is_deleted() for x in jax.tree.leaves((first.params, first.opt, first.ema)))
    assert jax.tree.map(lambda x: x.sharding, last) == places
    assert_close(seen, run(WHOLE, make_state())[1])  # one device
    for params, _ in seen:
        want = jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, want, params)
    assert_close(last.ema, want)
    assert int(last.step) == 3


def test_a_step_is_a_function_of_its_state_and_number():
    def noisy(params, model_state, batch, key):
        noise = jax.random.normal(make_rngs(key, "noise")["noise"], batch["x"].shape)
        return loss(params, model_state, {**batch, "x": batch["x"] + noise}, key)

    step, same = make_train_step(noisy, optax.sgd(0.0)), BATCHES[:1] * 3
    (_, one), (_, two) = (run(step, make_state(optax.sgd(0.0)), same) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert len({float(metrics["loss"][0]) for _, metrics in one}) == 3  # new noise every step


def test_adding_a_stream_changes_no_other():
    key = jax.random.key(0)
    one, two = make_rngs(key, "dropout"), make_rngs(key, "augment", "dropout")
    assert one["dropout"] == two["dropout"] != two["augment"]


@pytest.mark.parametrize("parts", [1, 2])
def test_batch_statistics_are_threaded(parts):
    norm = nn.BatchNorm(momentum=0.9, use_scale=False, use_bias=False, use_running_average=False)

    def loss(params, model_state, batch, key):
        y, model_state = norm.apply(model_state, batch["x"], mutable=list(model_state))
        metrics = {"loss": pair(y @ params["w"])}
        return as_terms(metrics), (metrics, model_state)

    state = make_state(init=lambda key: {"params": {"w": jnp.ones(4)}, **norm.init(key, W1.T)})
    state, _ = make_train_step(loss, SGD, accumulate=parts)(state, BATCHES[0])
    mu, var = np.zeros(4), np.ones(4)
    for x in (BATCHES[0]["x"][i::parts] for i in range(parts)):
        mu, var = 0.9 * mu + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0)
    assert_close(state.model_state["batch_stats"], {"mean": mu, "var": var})


def test_an_update_of_a_group_leaves_the_others():
    def loss(params, model_state, batch, key):
        metrics = {"loss": pair((params["d"] * params["g"] - 3) ** 2)}
        return as_terms(metrics), ({**metrics, "noise": pair(jax.random.normal(key))}, model_state)

    tx = {"g": optax.adam(0.1), "d": optax.adam(0.1)}
    state = make_state(tx, lambda key: {"params": dict.fromkeys(tx, jnp.ones(()))})
    new, metrics = update(state, BATCHES[0], loss, tx["d"], group="d")
    assert new.params == {"g": 1, "d": pytest.approx(1.1)}  # Adam's first step is its rate
    assert new.opt["g"] == state.opt["g"]
    assert (new.opt["d"][0].count, new.opt["d"][0].mu) == (1, pytest.approx(0.1 * 2 * (1 - 3)))
    assert set(metrics) == {"d/loss", "d/noise", "d/grad_norm", "d/bad"}
    assert (new.step, advance(new).step) == (0, 1)
    again = update(state, BATCHES[0], loss, tx["d"], group="d", rng_index=1)[1]
    assert again["d/noise"][0] != metrics["d/noise"][0]


@pytest.mark.parametrize(("where", "bad"), [("a", 0), ("c", 2), ("loss", 3), (None, -1)])
def test_bad_is_the_first_leaf_that_is_not_finite(where, bad):
    def loss(params, model_state, batch, key):
        scalar = sum(jnp.mean(batch[k] * params[k]) for k in params)
        scalar += jax.lax.stop_gradient(jnp.mean(batch["loss"]))
        metrics = {"loss": (scalar * 2.0, 2.0)}
        return as_terms(metrics), (metrics, model_state)

    state = make_state(init=lambda key: {"params": {k: jnp.ones(()) for k in "abc"}})
    for value, parts in ((np.nan, 1), (np.inf, 2)):
        batch = {k: np.ones(4, np.float32) for k in ("a", "b", "c", "loss")}
        if where:
            batch[where][2] = value
        metrics = update(state, batch, loss, SGD, accumulate=parts)[1]
        assert (metrics["bad"].dtype, int(metrics["bad"])) == (jnp.int32, bad)


def test_evaluation_uses_averaged_weights_and_masks():
    def measure(out, batch):
        return {"error": pair(jnp.abs(out - batch["y"]), batch["mask"])}

    state = make_state(ema=True)
    state = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    step = make_eval_step(lambda v, batch: forward(v["params"], batch["x"]), measure)
    mask = (np.arange(16) < 11).astype(np.float32)
    errors = np.abs(np.tanh(BATCHES[0]["x"] @ W1) @ W2 - 1)[:11]
    got = step(state, BATCHES[0] | {"mask": mask})["error"]
    assert got == (pytest.approx(errors.sum(), rel=1e-5), 11)


def test_a_step_compiles_from_shapes_alone():
    mesh = mesh_lib.make_mesh({"data": 8})
    shapes, _ = state_lib.abstract(init, SGD, mesh)
    rows = mesh_lib.batch_sharding(mesh)
    batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=rows) for k, v in BATCHES[0].items()}
    step = make_train_step(loss, SGD)
    assert "all-reduce" in step.lower(shapes, batch).compile().as_text()
    assert step.trace(shapes, batch).out_avals[0].shape == ()
