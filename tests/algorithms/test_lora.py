"""LoRA: against arithmetic by hand, and against the same model with all of its parameters."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.algorithms import finetune, lora
from research.core import config, mesh, state
from research.core.step import cast
from research.interop import huggingface
from research.run import open_run, reopen
from research.run.run import Run
from research.util.errors import UserError
from tools import cli

TINY = "language_model/tiny"
SMALL = ("mesh.data=1", "data.length=8", "model.num_layers=1", "model.dropout=0.0", "sample.length=2")
SHORT = (*SMALL, "num_steps=4", "optim.warmup=1", "save_every=2", "eval_every=4")
ADAPTED = (*SHORT, "lora.rank=2", "lora.full=final_norm")
KERNELS = ["attention/out", "attention/qkv", "feed_forward/down", "feed_forward/up"]


def bits(tree):
    """{path: bytes} of each leaf, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    keys = jax.dtypes.prng_key
    plain = ((path, jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x) for path, x in leaves)
    return {mesh.path_name(path): np.asarray(x).tobytes() for path, x in plain}


def build(*changes):
    return reopen.build("language_model", config.load(TINY, changes))


def one_device():
    return mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])


def born(e):
    return state.create(e.init_fn, e.tx, 0, one_device(), (), bool(e.ema))


def dense(params, model_state, batch, key):
    """Half the squared error of x W + c: its gradient with respect to W is x^T (x W + c - y)."""
    error = batch["x"] @ params["kernel"] + params["bias"] - batch["y"]
    return {"loss": (jnp.sum(error**2), 2.0, 1.0)}, ({"loss": (jnp.sum(error**2), 2.0)}, model_state)


def adapter(rank=2, scale=0.5, targets="kernel$", full=""):
    return lora.LoRA(rank, scale, targets, full)


def test_gradients_are_those_derived_by_hand():
    rng = np.random.default_rng(0)
    w, c, a, b, x, y = (rng.standard_normal(s) for s in [(6, 5), (5,), (6, 2), (2, 5), (7, 6), (7, 5)])
    params = {"kernel": {"lora_a": jnp.float32(a), "lora_b": jnp.float32(b)}}
    frozen = {"params": {"kernel": jnp.float32(w), "bias": jnp.float32(c)}, "scale": jnp.float32(0.5)}
    batch = {"x": jnp.float32(x), "y": jnp.float32(y)}

    def value(params):
        terms, (_, model_state) = adapter().loss(dense)(params, {"frozen": frozen}, batch, None)
        assert model_state["frozen"] is frozen
        return terms["loss"][0] / 2

    grads = jax.grad(value)(params)["kernel"]
    of_w = x.T @ (x @ (w + 0.5 * a @ b) + c - y)
    np.testing.assert_allclose(grads["lora_a"], 0.5 * of_w @ b.T, rtol=1e-4)
    np.testing.assert_allclose(grads["lora_b"], 0.5 * a.T @ of_w, rtol=1e-4)


def test_the_loss_sees_the_dtype_of_compute():
    """In bfloat16 too the sum W + scale a b is taken in f32: 1 + 2^-8 + 2^-8, of which bfloat16 would lose both."""
    frozen = {"params": {"kernel": jnp.float32([[1 + 2**-8]]), "bias": jnp.zeros(1)}, "scale": jnp.float32(2**-8)}
    params = cast({"kernel": {"lora_a": jnp.ones((1, 1)), "lora_b": jnp.ones((1, 1))}}, "bfloat16")
    seen = {}

    def loss(params, model_state, batch, key):
        seen.update(params)
        return {}, ({}, model_state)

    adapter().loss(loss)(params, {"frozen": frozen}, {}, None)
    assert seen["kernel"].dtype == seen["bias"].dtype == jnp.bfloat16
    assert float(seen["kernel"][0, 0]) == 1 + 2**-7


def test_the_first_step_is_that_of_the_model_alone():
    """b is zero: the same loss to the bit, and a gradient of b and of nothing before it."""
    plain, adapted = build(*SHORT), build(*ADAPTED, "pretrained.weights=RUN")
    metrics = []
    for e in (plain, adapted):
        now, devices = born(e), one_device()
        with jax.set_mesh(devices):
            batch = next(iter(e.train.on_device(devices, 0, 1)))
            metrics.append(jax.device_get(e.train_step(now, batch)[1]))
    assert metrics[0]["loss"] == metrics[1]["loss"]
    assert bits(born(plain).params) == bits(born(adapted).variables["params"])
    assert metrics[1]["grad_norm"][0] > 0


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "run"
    assert cli.main(["train", TINY, f"--workdir={folder}", *(f"--config.{c}" for c in SHORT)]) == 0
    return folder


def train(e, folder, until=None):
    """The family's loop, left without a word after `until` steps."""
    with Run(e, folder) as run:
        now = run.start()
        for batch in run.batches():
            now, metrics = e.train_step(now, batch)
            run.log("train", metrics)
            for split, values in run.evaluate(now):
                run.log(split, values)
            now = run.save(now)
            if run.done == until:
                return now
        return run.finish(now)


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, train(build(*ADAPTED, f"pretrained.weights={base}"), folder)


def test_what_is_frozen_does_not_change_and_has_no_moments(base, tuned):
    _, before, _ = reopen.load(base, "best")
    folder, after = tuned
    frozen = after.model_state["frozen"]["params"]
    start = bits(before.params)
    del start["final_norm/scale"]
    assert bits(frozen) == start
    trained = [f"h_0/{name}/kernel/lora_{part}" for name in KERNELS for part in "ab"]
    assert sorted(bits(after.params)) == sorted([*trained, "final_norm/scale"])
    moments = [name for name in bits(after.opt) if re.search("/[mn]u/", name)]
    assert len(moments) == 2 * len(bits(after.params))
    start = bits(before.params)
    changed = [name for name, x in bits(after.variables["params"]).items() if x != start[name]]
    assert changed == ["final_norm/scale", *(f"h_0/{name}/kernel" for name in KERNELS)]
    count = 32 + 2 * sum((32 + 32, 32 + 96, 128 + 32, 32 + 128))  # the norm's, and rank x (in + out)
    assert f"lora     rank 2 at 4 arrays: {count:,} parameters train" in (folder / "report.json").read_text()


def test_killed_and_resumed_it_is_the_same_to_the_bit(base, tuned, tmp_path):
    changes = (*ADAPTED, f"pretrained.weights={base}")
    train(build(*changes), tmp_path / "run", until=3)  # the last checkpoint is of step 2
    assert bits(train(build(*changes), tmp_path / "run")) == bits(tuned[1])
    logs = [(folder / "metrics.jsonl").read_bytes() for folder in (tmp_path / "run", tuned[0])]
    assert logs[0] == logs[1]


def test_the_run_opens_without_its_base_and_exports_what_it_applies(base, tuned, tmp_path):
    folder, after = tuned
    base.rename(base.with_name("moved"))
    try:
        run = open_run.open_run(folder, "last")
    finally:
        base.with_name("moved").rename(base)
    assert bits(run.variables) == bits(after.variables)
    assert cli.main(["export", str(folder), f"--out={tmp_path / 'predict.stablehlo'}"]) == 0  # compares with the model


def test_hugging_face_gets_merged_weights(tuned, tmp_path):
    folder, after = tuned
    assert (
        cli.main(["export", str(folder), "--to=huggingface", f"--out={tmp_path / 'there'}", "--checkpoint=last"]) == 0
    )
    arrays, _ = huggingface.read(tmp_path / "there").placed(build(*SHORT).model)
    kernel = after.model_state["frozen"]["params"]["h_0"]["attention"]["qkv"]["kernel"]
    a, b = (np.asarray(after.params["h_0"]["attention"]["qkv"]["kernel"][f"lora_{part}"], np.float64) for part in "ab")
    assert np.abs(b).max() > 1e-3
    np.testing.assert_allclose(arrays["h_0/attention/qkv/kernel"], kernel + 16 / 2 * a @ b, rtol=1e-5, atol=1e-6)


def test_another_run_begins_with_the_merged_parameters(tuned):
    folder, after = tuned
    e = build(*SHORT, f"pretrained.weights={folder}@last")
    loaded = e.load_pretrained(born(e), SimpleNamespace(note=lambda line: None, writes=False))
    for name, x in bits(loaded.params).items():
        assert x == bits(after.variables["params"])[name], name


def test_layers_in_a_stack_are_adapted_and_averages_begin_with_the_weights(base):
    e = build(*SHORT, "lora.rank=2", f"pretrained.weights={base}", "model.scan=True", "optim.ema=0.9")
    now = e.load_pretrained(born(e), SimpleNamespace(note=lambda line: None, writes=False))
    assert now.params["h"]["attention"]["qkv"]["kernel"]["lora_a"].shape == (1, 32, 2)
    assert bits(now.ema) == bits(now.params)
    _, theirs, _ = reopen.load(base, "best")
    (kernel,) = now.model_state["frozen"]["params"]["h"]["attention"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel, theirs.params["h_0"]["attention"]["qkv"]["kernel"])


def test_the_base_lies_as_the_rules_say_and_adapters_on_every_device():
    e = build(*ADAPTED, "pretrained.weights=RUN", "rules=fsdp", "mesh.data=8")
    devices = mesh.make_mesh({"data": 8, "model": 1})
    _, shardings = state.abstract(e.init_fn, e.tx, devices, e.rules)
    kernel = shardings.model_state["frozen"]["params"]["h_0"]["attention"]["qkv"]["kernel"]
    assert kernel.spec == jax.sharding.PartitionSpec("data", None)
    adapters = jax.tree.leaves(shardings.params["h_0"])
    assert adapters and all(not sharding.spec for sharding in adapters)


def test_first_values():
    """a has a variance of 1 / in, b is zero; another path, other values."""
    params = {"h_0": {"up": {"kernel": jnp.ones((400, 300))}, "out": {"kernel": jnp.ones((400, 300))}}}
    variables = adapter(rank=100).init(lambda key: {"params": params, "statistics": {}})(jax.random.key(0))
    up, out = (variables["params"]["h_0"][name]["kernel"] for name in ("up", "out"))
    assert float(jnp.var(up["lora_a"])) == pytest.approx(1 / 400, rel=0.03)
    assert float(jnp.mean(up["lora_a"])) == pytest.approx(0, abs=1e-3)
    assert not up["lora_b"].any() and not (up["lora_a"] == out["lora_a"]).any()


def test_adapters_have_the_depth_of_their_layer():
    e = build(*ADAPTED, "model.num_layers=2", "pretrained.weights=RUN")
    depths, top = finetune.depths(jax.eval_shape(e.init_fn, jax.random.key(0))["params"])
    assert top == 2 and depths["final_norm"]["scale"] == 3
    assert set(jax.tree.leaves(depths["h_0"])) == {1} and set(jax.tree.leaves(depths["h_1"])) == {2}


@pytest.mark.parametrize(
    ("group", "scale"),
    [({"rank": 4}, 4.0), ({"rank": 4, "alpha": 2}, 0.5), ({"rank": 4, "rank_stabilised": True}, 8.0)],
)
def test_scale(group, scale):
    assert lora.make(group, {"weights": "RUN", "fresh": None}).scale == scale


def test_a_new_head_trains_in_full_unless_it_is_said_otherwise():
    pretrained = {"weights": "RUN", "fresh": "^head/"}
    assert lora.make({"rank": 1}, pretrained).full == "^head/"
    assert lora.make({"rank": 1, "full": "bias$"}, pretrained).full == "bias$"
    assert lora.make({}, pretrained) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["lora.rank=2"], "lora.rank = 2 adapts trained weights: set pretrained.weights (or --init-from)"),
        (["lora.rank=0"], "lora.rank = 0: a whole number, at least 1"),
        (["lora.rank=2", "lora.alpha=-1"], "lora.alpha = -1: a number above 0"),
        (["lora.rank=2", "lora.rank_stabilised=3"], "lora.rank_stabilised = 3: True, or None"),
        (["lora.rank=2", "lora.targets=("], "lora.targets = '(' is no regular expression"),
        (["lora.rank=2", "lora.targets=nothing"], "lora.targets = 'nothing' matches no parameter"),
        (["lora.rank=2", "lora.full=^head/"], "lora.full = '^head/' matches no parameter"),
        (["lora.rank=33"], "lora.rank = 33: at most 32, as h_0/attention/qkv/kernel is [32, 96]"),
        (["lora.rank=2", "lora.targets=scale$"], "which is no matrix [in, out]"),
        (["lora.rank=2", "lora.targets=up/kernel", "model.experts=2"], "up/kernel [2, 32, 128], which is no matrix"),
    ],
)
def test_mistakes(changes, message):
    weights_too = [] if "lora.rank=2" == changes[-1] else ["pretrained.weights=RUN"]
    with pytest.raises(UserError, match=re.escape(message)):
        born(build(*SHORT, *weights_too, *changes))


def test_an_option_without_a_rank_is_read_by_nothing(tmp_path):
    with pytest.raises(UserError, match=re.escape("lora.alpha")):
        train(build(*SHORT, "lora.alpha=3"), tmp_path / "run")
