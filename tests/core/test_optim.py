"""Every rule against Optax's optimiser and torch's; schedules by hand; decay, freezing by path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import optim
from research.core.config import OPTIM, TrackedConfig
from research.util.errors import UserError

LR, WD, STEPS = 0.03, 0.1, 5
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(16, 3)).astype("f"), rng.normal(size=(16, 2)).astype("f")
START = {"dense": {"kernel": rng.normal(size=(3, 2)).astype("f"), "bias": np.full(2, 0.5, "f")}}
KERNELS = {"dense": {"kernel": True, "bias": False}}


def config(name="sgd", **changes):
    return {**OPTIM, "name": name, "peak_lr": LR, "schedule": "constant", **changes}


def make(name="sgd", num_steps=10, **changes):
    return optim.make(config(name, **changes), num_steps)


def loss(params, x=X, y=Y):
    return jnp.mean((x @ params["dense"]["kernel"] + params["dense"]["bias"] - y) ** 2)


def descend(tx, params=START, loss=loss):
    @jax.jit
    def run(params):
        def step(_, carry):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, STEPS, step, (params, tx.init(params)))[0]

    return run(params)


def follow(tx, grads, params):
    """Parameters after an update for each leading row of `grads`."""

    @jax.jit
    def run(params, grads):
        def step(carry, g):
            updates, state = tx.update(g, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), grads)[0][0]

    return run(params, grads)


def same(a, b, **tolerance):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-6, "atol": 1e-6} | tolerance),
        a,
        b,
    )


decoupled = {"weight_decay": WD, "mask": KERNELS}
L2 = optax.add_decayed_weights(WD, KERNELS)
OPTAX = {
    "sgd": optax.sgd(LR),
    "momentum": optax.sgd(LR, 0.9),
    "nesterov": optax.sgd(LR, 0.9, nesterov=True),
    "rmsprop": optax.rmsprop(LR, 0.99, eps_in_sqrt=False),
    "adagrad": optax.adagrad(LR, 0.0, 1e-10),
    "adadelta": optax.adadelta(LR),
    "adam": optax.adam(LR),
    "adamw": optax.adamw(LR, **decoupled),
    "amsgrad": optax.amsgrad(LR),
    "lamb": optax.lamb(LR, **decoupled),
    "lion": optax.lion(LR, **decoupled),
    # Optax's Adafactor decays by its rate itself, not by rate times learning rate.
    "adafactor": optax.adafactor(LR, weight_decay_rate=LR * WD, weight_decay_mask=KERNELS),
    "muon": optax.contrib.muon(LR),
}
NOT_IN_OPTAX = {"amsgrad_raw"}  # whose amsgrad is another
DECAYED_THERE = ("adamw", "lamb", "lion", "adafactor")


def test_every_rule_is_compared():
    assert OPTAX.keys() | NOT_IN_OPTAX == {*optim.RULES, *optim.WHOLE}


@pytest.mark.parametrize("name", OPTAX)
def test_rule_equals_optax(name):
    same(descend(make(name, weight_decay=WD if name in DECAYED_THERE else 0.0)), descend(OPTAX[name]))


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adadelta", "adam", "amsgrad"])
def test_coupled_decay_is_l2(name):
    """Added to the gradient, so the same as minimising loss + wd/2 |kernel|^2."""

    def penalised(params):
        return loss(params) + WD / 2 * jnp.sum(params["dense"]["kernel"] ** 2)

    same(descend(make(name, weight_decay=WD)), descend(OPTAX[name], loss=penalised), rtol=1e-5)


GRADIENTS = [np.linspace(1, 2, 6).reshape(3, 2), np.full((3, 2), -0.2), *(rng.normal(size=(3, 2)) for _ in range(30))]


@pytest.mark.parametrize("weight_decay", [0.0, WD])
def test_amsgrad_raw_equals_torch(weight_decay):
    """torch.optim.Adam(amsgrad=True), on gradients that begin large: there Optax's amsgrad is another."""
    torch = pytest.importorskip("torch")
    weight = torch.tensor(START["dense"]["kernel"].copy(), requires_grad=True)
    rule = torch.optim.Adam([weight], lr=LR, betas=(0.8, 0.95), eps=1e-6, weight_decay=weight_decay, amsgrad=True)
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient.astype("f"))
        rule.step()
    options = {"b1": 0.8, "b2": 0.95, "eps": 1e-6, "weight_decay": weight_decay, "decay": ""}
    grads, start = {"kernel": np.stack(GRADIENTS).astype("f")}, {"kernel": START["dense"]["kernel"]}
    ours, optaxs = (follow(make(name, **options), grads, start)["kernel"] for name in ("amsgrad_raw", "amsgrad"))
    np.testing.assert_allclose(ours, weight.detach().numpy(), rtol=1e-6, atol=1e-6)
    assert np.abs(optaxs - ours).max() > 0.01


def test_amsgrad_raw_by_hand():
    """Gradients 1, 0 with b1 = 0, b2 = 1/2: v = 1/2, 1/4; max v = 1/2, 1/2; over 1 - b2^t: 1, 2/3. m = 1, 0, then g = 1 again."""
    grads = {"w": np.array([1.0, 0.0, 1.0], "f")}
    after = follow(make("amsgrad_raw", b1=0.0, b2=0.5, eps=0.0), grads, {"w": np.float32(0)})
    # v_3 = 1/8 + 1/2 = 5/8, which is the maximum; over 1 - 1/8 it is 5/7.
    np.testing.assert_allclose(after["w"], -LR * (1 + (7 / 5) ** 0.5), rtol=1e-6)


def test_adafactor_factors_as_optax_does():
    params = {"kernel": rng.normal(size=(128, 130)).astype("f")}

    def loss(p):
        return jnp.mean(jnp.square(p["kernel"] - 1))

    ours = make("adafactor")
    assert max(leaf.size for leaf in jax.tree.leaves(ours.init(params))) < 200  # rows and columns, not their product
    same(descend(ours, params, loss), descend(optax.adafactor(LR), params, loss))


def test_muon_decays_by_path_and_leaves_vectors_and_the_head_to_adam():
    params = {"up": START["dense"], "head": START["dense"]}
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = make("muon", weight_decay=WD)
    state = tx.init(params)
    updates, _ = jax.jit(tx.update)(zeros, state, params)
    for part in ("up", "head"):  # without a gradient the decay is all there is
        np.testing.assert_allclose(updates[part]["kernel"], -LR * WD * params[part]["kernel"], rtol=1e-6)
        assert not np.any(updates[part]["bias"])
    grads = jax.tree.map(jnp.asarray, params)
    whole, _ = jax.jit(make("muon").update)(grads, make("muon").init(params), params)
    head, _ = optax.nadam(LR).update(grads["head"], optax.nadam(LR).init(params["head"]), params["head"])
    same(whole["head"], head)
    singular = np.linalg.svd(whole["up"]["kernel"], compute_uv=False)
    assert np.all((0.6 * LR < singular) & (singular < 1.3 * LR))  # Newton-Schulz: all near 1


# name of ours, our options, torch's name, its options. Adagrad's eps is outside the root there: equal
# while it is small. torch's AMSGrad takes the maximum before the bias correction, its Adafactor
# clips and scales differently, its Muon iterates in bfloat16; it has no LAMB and no Lion.
TORCH = [
    ("sgd", {}, "SGD", {}),
    ("momentum", {}, "SGD", {"momentum": 0.9}),
    ("momentum", {"momentum": 0.5}, "SGD", {"momentum": 0.5}),
    ("nesterov", {}, "SGD", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {}, "RMSprop", {}),
    ("rmsprop", {"b2": 0.9, "eps": 1e-3, "momentum": 0.8}, "RMSprop", {"alpha": 0.9, "eps": 1e-3, "momentum": 0.8}),
    ("adagrad", {}, "Adagrad", {}),
    ("adadelta", {}, "Adadelta", {}),
    ("adadelta", {"b2": 0.8, "eps": 1e-3}, "Adadelta", {"rho": 0.8, "eps": 1e-3}),
    ("adam", {}, "Adam", {}),
    ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, "Adam", {"betas": (0.8, 0.95), "eps": 1e-3}),
    ("adamw", {}, "AdamW", {}),
    ("adamw", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, "AdamW", {"betas": (0.8, 0.95), "eps": 1e-3}),
]


@pytest.mark.parity
@pytest.mark.parametrize("name, ours, cls, theirs", TORCH)
def test_rule_equals_torch(name, ours, cls, theirs):
    torch = pytest.importorskip("torch")
    kernel, bias = (torch.nn.Parameter(torch.tensor(START["dense"][k])) for k in ("kernel", "bias"))
    groups = [{"params": [kernel], "weight_decay": WD}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, cls)(groups, lr=LR, **theirs)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.mean((torch.tensor(X) @ kernel + bias - torch.tensor(Y)) ** 2).backward()
        optimizer.step()
    expected = {"dense": {"kernel": kernel.detach().numpy(), "bias": bias.detach().numpy()}}
    same(descend(make(name, weight_decay=WD, **ours)), expected)


VALUES = {"b1": 0.7, "b2": 0.8, "eps": 0.1, "momentum": 0.5}


@pytest.mark.parametrize("name, key", [(n, k) for n, rule in (optim.RULES | optim.WHOLE).items() for k in rule.options])
def test_every_option_changes_what_happens(name, key):
    # Of changing sizes and signs, for AMSGrad's maximum and Lion.
    grads = np.random.default_rng(1).normal(size=(5, 3, 2)) * np.array([1, 3, 1, 0.1, 1])[:, None, None]
    grads = {"kernel": grads}
    params = {"kernel": START["dense"]["kernel"]}
    plain, changed = (follow(make(name, **c), grads, params) for c in ({}, {key: VALUES[key]}))
    assert np.abs(plain["kernel"] - changed["kernel"]).max() > 1e-6


@pytest.mark.parametrize(
    "name, key",
    [(n, k) for n, rule in (optim.RULES | optim.WHOLE).items() for k in VALUES if k not in rule.options],
)
def test_option_that_the_rule_does_not_take(name, key):
    with pytest.raises(UserError, match=rf"optim\.{key} = .* is no option of {name}; it takes"):
        make(name, **{key: VALUES[key]})


def test_every_key_is_read():
    """`clip_norm`, `accumulate` and `ema` are the step's."""
    cfg = TrackedConfig(config("adamw", b1=None))
    optim.make(cfg, 10)
    assert set(cfg.unread()) == {"clip_norm", "accumulate", "ema"}


# Schedules


def rates(steps, num_steps=20, **changes):
    rate = optim.schedule(config(**{"peak_lr": 1.0, **changes}), num_steps)
    return [float(rate(t)) for t in steps]


@pytest.mark.parametrize(
    "changes, steps, expected",
    [
        ({}, (0, 7, 19), (1, 1, 1)),
        ({"warmup": 4}, (0, 1, 2, 3, 4, 19), (0, 0.25, 0.5, 0.75, 1, 1)),
        ({"schedule": "cosine"}, (0, 5, 10, 20), (1, (1 + 2**-0.5) / 2, 0.5, 0)),
        ({"schedule": "cosine", "warmup": 4, "end_lr": 0.2}, (2, 4, 12, 20), (0.5, 1, 0.6, 0.2)),
        ({"schedule": "linear", "end_lr": 0.5}, (0, 10, 20), (1, 0.75, 0.5)),
        ({"schedule": "linear", "warmup": 10}, (5, 10, 15, 20), (0.5, 1, 0.5, 0)),
        (
            {"schedule": "step", "boundaries": (6, 9)},
            (0, 5, 6, 8, 9, 19),
            (1, 1, 0.1, 0.1, 0.01, 0.01),
        ),
        (
            {"schedule": "step", "boundaries": (6,), "drop": 0.5, "warmup": 2},
            (1, 2, 5, 6),
            (0.5, 1, 1, 0.5),
        ),
        ({"schedule": "rsqrt", "warmup": 4}, (2, 4, 16), (0.5, 1, 0.5)),
        ({"schedule": "rsqrt"}, (0, 3, 15), (1, 0.5, 0.25)),
    ],
)
def test_schedule_by_hand(changes, steps, expected):
    np.testing.assert_allclose(rates(steps, **changes), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "step", "rsqrt"])
def test_a_schedule_after_a_warm_up_is_defined_from_step_0(kind):
    """For an int as for an array: rsqrt divided by zero there, since both parts of the schedule are computed."""
    rate = optim.schedule(config(schedule=kind, warmup=4, boundaries=(6,) if kind == "step" else ()), 20)
    for step in range(8):
        assert np.isfinite(rate(step)) and rate(step) == pytest.approx(float(rate(jnp.int32(step))))
    assert rate(0) == 0 and rate(2) == pytest.approx(LR / 2) and rate(4) == pytest.approx(LR)


def test_a_familys_schedule_is_not_asked_before_its_first_step():
    asked = []

    def make_own(peak, end, steps):
        return lambda t: asked.append(int(t)) or peak

    rate = optim.schedule(config(schedule="own", warmup=3), 9, {"own": make_own})
    assert [float(rate(step)) for step in range(5)] == pytest.approx([0, LR / 3, 2 * LR / 3, LR, LR])
    assert min(asked) == 0


def test_rate_is_the_schedules_at_the_steps_number():
    tx = make(peak_lr=1.0, warmup=2, num_steps=4, schedule="linear")
    params, state = {"w": jnp.zeros(())}, tx.init({"w": jnp.zeros(())})
    seen = []
    for _ in range(4):
        updates, state = tx.update({"w": jnp.ones(())}, state, params)
        seen.append(-float(updates["w"]))
    assert seen == [0.0, 0.5, 1.0, 0.5]


def test_boundaries_are_durations():
    cfg = TrackedConfig(
        {
            "optim": config(schedule="step", boundaries=("1 epoch", 5), warmup="1 step"),
            "num_steps": 10,
        }
    )
    steps = cfg.in_steps(epoch=60, batch_size=20)
    assert steps.optim.boundaries == (3, 5) and steps.optim.warmup == 1
    rate = optim.schedule(steps.optim, steps.num_steps)
    np.testing.assert_allclose([rate(t) / LR for t in (2, 3, 5)], [1, 0.1, 0.01], rtol=1e-6)


# Decay and freezing by path

BLOCK = {
    "norm": {"scale": np.ones(3, "f"), "bias": np.ones(3, "f")},
    "dense": {"kernel": np.ones((3, 2), "f"), "bias": np.ones(2, "f")},
    "embed": {"embedding": np.ones((4, 3), "f")},
}


@pytest.mark.parametrize("name", OPTAX)
def test_biases_and_norms_do_not_decay(name):
    zeros = jax.tree.map(lambda x: np.zeros((1, *x.shape), "f"), BLOCK)
    after = follow(make(name, weight_decay=WD), zeros, BLOCK)
    assert {path for path, x in _flat(after).items() if np.any(x != 1)} == {
        "dense/kernel",
        "embed/embedding",
    }


def test_decay_takes_the_configs_pattern():
    tx = make(weight_decay=WD, decay="scale$")
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, BLOCK), tx.init(BLOCK), BLOCK)
    np.testing.assert_allclose(updates["norm"]["scale"], -LR * WD, rtol=1e-6)
    assert not np.any(updates["dense"]["kernel"])


@pytest.mark.parametrize("name", OPTAX)
def test_frozen_parameters_stay_bitwise_and_have_no_moments(name):
    tx = make(name, weight_decay=WD, freeze="^(dense|norm)/")
    assert not [path for path in _flat(jax.eval_shape(tx.init, BLOCK)) if "dense" in path or "norm" in path]
    params = follow(tx, jax.tree.map(lambda x: np.ones((2, *x.shape), "f"), BLOCK), BLOCK)
    for part in ("dense", "norm"):
        jax.tree.map(np.testing.assert_array_equal, params[part], BLOCK[part])
    assert np.all(params["embed"]["embedding"] != 1)


def _flat(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree_util.tree_leaves_with_path(tree)
    }


# Mistakes


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "adamww"}, "there is no optimiser 'adamww'; did you mean 'adamw'?"),
        ({"name": "mon"}, "did you mean 'muon'?"),
        ({"schedule": "cosin"}, "there is no schedule 'cosin'; did you mean 'cosine'?"),
        ({"warmup": 10}, "optim.warmup = 10 steps leaves none of num_steps = 10"),
        ({"warmup": 11}, "optim.warmup = 11"),
        ({"end_lr": 1e-4}, "optim.end_lr = 0.0001 is no option of the schedule constant"),
        ({"boundaries": (3,)}, "optim.boundaries = (3,) with the schedule constant"),
        ({"schedule": "step"}, "optim.boundaries = () with the schedule step"),
        ({"schedule": "step", "boundaries": (-1,)}, "optim.boundaries = (-1,): steps, each at least 0"),
        ({"peak_lr": -1.0}, "optim.peak_lr = -1.0: a number at least 0"),
        ({"peak_lr": np.nan}, "optim.peak_lr = nan: a number at least 0"),
        ({"peak_lr": np.inf}, "optim.peak_lr = inf: a number at least 0"),
        ({"end_lr": -1e-3}, "optim.end_lr = -0.001: a number at least 0"),
        ({"warmup": -1}, "optim.warmup = -1: a number at least 0"),
        ({"weight_decay": -0.1}, "optim.weight_decay = -0.1: a number at least 0"),
        ({"weight_decay": np.nan}, "optim.weight_decay = nan"),
        ({"clip_norm": -1.0}, "optim.clip_norm = -1.0: a number at least 0"),
        ({"clip_norm": np.nan}, "optim.clip_norm = nan"),
        ({"ema": 1.0}, "optim.ema = 1.0: a number from 0 to below 1"),
        ({"ema": -0.5}, "optim.ema = -0.5"),
        ({"ema": np.nan}, "optim.ema = nan"),
        ({"accumulate": 0}, "optim.accumulate = 0: a number at least 1"),
        ({"drop": -1.0}, "optim.drop = -1.0"),
        ({"name": "adam", "b1": 1.0}, "optim.b1 = 1.0: a number from 0 to below 1"),
        ({"name": "adam", "b2": -0.1}, "optim.b2 = -0.1"),
        ({"name": "adam", "eps": -1e-8}, "optim.eps = -1e-08"),
        ({"name": "momentum", "momentum": 1.5}, "optim.momentum = 1.5: a number from 0 to below 1"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(UserError) as error:
        make(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["freeze", "decay"])
def test_pattern_that_matches_nothing(key):
    tx = make(weight_decay=WD, **{key: "kernal"})
    with pytest.raises(UserError, match=rf"optim\.{key} = 'kernal' matches no parameter"):
        tx.init(BLOCK)
