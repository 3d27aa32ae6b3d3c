"""Rates by layer and gradual unfreezing, by hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.algorithms import finetune
from research.algorithms.defaults import FINETUNE
from research.core import config, optim
from research.core.config import TrackedConfig
from research.util.errors import UserError

# Two layers: depth 0 the embeddings, 1 and 2 the layers, 3 the heads.
PATHS = {
    "encoder/tokens/embedding": 0,
    "encoder/position/embedding": 0,
    "encoder/embedding_norm/scale": 0,
    "encoder/h_0/attention/qkv/kernel": 1,
    "encoder/h_1/feed_forward/up/kernel": 2,
    "encoder/h_1/feed_forward_norm/scale": 2,
    "pooler/dense/kernel": 3,
    "head/bias": 3,
}


def nested(values):
    out = {}
    for path, value in values.items():
        *groups, last = path.split("/")
        inner = out
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return out


def flat(tree):
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree_util.tree_leaves_with_path(tree)
    }


PARAMS = nested({path: np.full((2, 3), 1.0 + i, "f") for i, path in enumerate(PATHS)})
ONES = jax.tree.map(np.ones_like, PARAMS)


def make(num_steps=20, optimiser=None, **how):
    cfg = {**config.OPTIM, "name": "sgd", "peak_lr": 1.0, "schedule": "constant", **(optimiser or {})}
    return finetune.make(cfg, {**FINETUNE, **how}, num_steps)


def follow(tx, steps, grads=ONES, params=PARAMS):
    """The parameters and the optimiser's state after each of `steps` updates with the same gradients."""
    state, update = tx.init(params), jax.jit(tx.update)
    seen = []
    for _ in range(steps):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, state))
    return seen


def test_depths_are_read_from_paths():
    found, top = finetune.depths(PARAMS)
    assert flat(found) == PATHS and top == 2
    gpt = nested(
        dict.fromkeys(["tokens/embedding", "h_0/a/kernel", "h_10/a/kernel", "final_norm/scale", "head/kernel"], 0)
    )
    found, top = finetune.depths(gpt)
    assert list(flat(found).values()) == [12, 1, 11, 12, 0] and top == 11


def test_the_defaults_change_nothing():
    plain = optim.make({**config.OPTIM, "peak_lr": 1.0, "schedule": "constant"}, 20)
    jax.tree.map(np.testing.assert_array_equal, *(follow(tx, 3) for tx in (make(optimiser={"name": "adamw"}), plain)))


def test_a_layers_rate_is_a_power_of_the_decay():
    """Gradients of 1 under plain descent: an update is the layer's rate."""
    tx = make(layer_decay=0.5, optimiser={"schedule": "linear", "end_lr": 0.0, "warmup": 2}, num_steps=6)
    rates = [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    np.testing.assert_allclose([tx.schedule(t) for t in range(6)], rates)  # what a run logs: the heads'
    was = flat(PARAMS)
    for rate, (params, _) in zip(rates, follow(tx, 6), strict=True):
        now = flat(params)
        for path, depth in PATHS.items():
            share = {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0}[depth]
            np.testing.assert_allclose(was[path] - now[path], rate * share, atol=2e-6, err_msg=path)
        was = now


@pytest.mark.parametrize("name", ["adamw", "lamb", "adafactor"])
def test_decay_and_rules_scale_with_the_layer(name):
    """Every rule's update is proportional to its rate, weight decay too: a layer's is that of the rate it has."""
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), PARAMS)
    how = {"name": name, "weight_decay": 0.1}
    ours = flat(follow(make(layer_decay=0.5, optimiser=how), 1, grads)[0][0])
    for depth, rate in {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0}.items():
        theirs = flat(follow(make(optimiser={**how, "peak_lr": rate}), 1, grads)[0][0])
        for path in (p for p, d in PATHS.items() if d == depth):
            np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-5, err_msg=path)


def test_layers_begin_one_after_another_from_the_top():
    """Every 3 updates a layer more: heads at 0, h_1 at 3, h_0 at 6, embeddings at 9; till then to the bit as they were."""
    was, begins = flat(PARAMS), {3: 0, 2: 3, 1: 6, 0: 9}
    tx = make(unfreeze_every=3, optimiser={"name": "adamw", "weight_decay": 0.1, "decay": "."})
    for step, (params, _) in enumerate(follow(tx, 11)):
        for path, x in flat(params).items():
            before = step < begins[PATHS[path]]
            same = np.asarray(x).tobytes() == np.asarray(was[path]).tobytes()
            assert same == before, (step, path)
        was = flat(params)


def test_a_layer_that_begins_late_takes_steps_of_the_usual_size():
    """Under Adam gradients of one size make updates of the rate, in the first of a late layer as in any other."""
    tx = make(unfreeze_every=4, optimiser={"name": "adam"})
    states = follow(tx, 6)
    before, after = (flat(states[i][0])["encoder/h_1/feed_forward/up/kernel"] for i in (3, 4))
    np.testing.assert_allclose(before - after, 1.0, atol=1e-4)
    whole = follow(make(optimiser={"name": "adam"}), 6)[-1][1]
    mine = states[-1][1][0]  # the rule's own state, the counts of the layers beside it
    jax.tree.map(np.testing.assert_array_equal, mine, whole)


def test_both_together():
    tx = make(layer_decay=0.5, unfreeze_every=2)
    moved = jax.tree.map(lambda a, b: float(np.mean(a - b)), PARAMS, follow(tx, 8)[-1][0])
    want = {3: 8 * 1.0, 2: 6 * 0.5, 1: 4 * 0.25, 0: 2 * 0.125}
    for path, value in flat(moved).items():
        assert value == pytest.approx(want[PATHS[path]], abs=1e-5), path


def test_a_stack_of_layers_has_a_rate_for_each():
    params = nested(
        {"h/up/kernel": np.ones((2, 2, 3), "f"), "tokens/embedding": np.ones((4, 3), "f"), "head/bias": np.ones(3, "f")}
    )
    depth, top = finetune.depths(params)
    assert top == 2 and depth["h"]["up"]["kernel"].tolist() == [1, 2]
    tx = make(layer_decay=0.5, unfreeze_every=2)
    after = follow(tx, 5, jax.tree.map(np.ones_like, params), params)[-1][0]
    np.testing.assert_allclose(1 - after["h"]["up"]["kernel"][:, 0, 0], [1 * 0.25, 3 * 0.5])
    np.testing.assert_allclose(1 - after["head"]["bias"], 5)
    np.testing.assert_array_equal(after["tokens"]["embedding"], params["tokens"]["embedding"])


def test_frozen_stays_frozen():
    tx = make(layer_decay=0.9, unfreeze_every=1, optimiser={"freeze": "tokens|h_0", "name": "adam"})
    now, was = flat(follow(tx, 6)[-1][0]), flat(PARAMS)
    still = {path for path in PATHS if np.array_equal(now[path], was[path])}
    assert still == {"encoder/tokens/embedding", "encoder/h_0/attention/qkv/kernel"}


def test_durations_are_the_configs():
    cfg = TrackedConfig(
        {"finetune": {"layer_decay": 1.0, "unfreeze_every": "2 epochs"}, "optim": dict(config.OPTIM), "num_steps": 9}
    )
    cfg = cfg.in_steps(epoch=60, batch_size=20)
    assert cfg.finetune.unfreeze_every == 6
    finetune.make(cfg.optim, cfg.finetune, cfg.num_steps)
    assert not [key for key in cfg.unread() if key.startswith("finetune")]


@pytest.mark.parametrize(
    "how, words",
    [
        ({"layer_decay": 0.0}, "finetune.layer_decay = 0.0: above 0 and at most 1"),
        ({"layer_decay": 1.5}, "finetune.layer_decay = 1.5"),
        ({"unfreeze_every": -1}, "finetune.unfreeze_every = -1: at least 0"),
    ],
)
def test_mistakes(how, words):
    with pytest.raises(UserError, match=words) as caught:
        make(**how)
    assert "\n" not in str(caught.value)


def test_a_model_without_layers():
    with pytest.raises(UserError, match="a model with layers h_0"):
        make(layer_decay=0.5).init({"dense": {"kernel": jnp.ones((2, 2))}})
