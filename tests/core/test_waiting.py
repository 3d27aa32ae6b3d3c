"""Parameters that begin to train later, by what an optimiser that begins there does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import optim
from research.core.config import OPTIM, TrackedConfig
from research.util.errors import UserError

RNG = np.random.default_rng(0)
PARAMS = {
    "stem": {"kernel": np.array([[-0.0, 1.0], [2.0, 0.0]], "f")},  # no addition of 0 may change the sign of the first
    "block1": {"kernel": RNG.normal(size=(2, 2)).astype("f"), "bias": np.ones(2, "f")},
    "head": {"kernel": RNG.normal(size=(2, 3)).astype("f")},
}
GRADS = [jax.tree.map(lambda x: RNG.normal(size=x.shape).astype("f"), PARAMS) for _ in range(8)]
UNFREEZE = (("^block", 2), ("^(block|stem)", 5))
COMMON = {"name": "adamw", "weight_decay": 0.1, "decay": ".", "peak_lr": 0.1, "schedule": "linear"}


def make(num_steps=8, updates=1, **changes):
    return optim.make({**OPTIM, **COMMON, "unfreeze": UNFREEZE, **changes}, num_steps, updates)


def follow(tx, grads=GRADS, params=PARAMS):
    """The parameters and the state after each update."""
    state, seen = tx.init(params), []
    for g in grads:
        updates, state = jax.jit(tx.update)(g, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, state))
    return seen


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x).view("i4"), np.asarray(y).view("i4")), a, b)


def test_what_waits_stays_to_the_bit_and_then_trains_as_if_it_began_there():
    seen = follow(make())
    for name, first in {"head": 0, "block1": 2, "stem": 5}.items():
        for params, _ in seen[:first]:
            same(params[name], PARAMS[name])
        tx = optax.adamw(lambda count, first=first: make().schedule(count + first), weight_decay=0.1)
        alone = follow(tx, [g[name] for g in GRADS[first:]], PARAMS[name])
        for (ours, _), (theirs, _) in zip(seen[first:], alone, strict=True):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours[name], theirs)


def test_what_waits_has_no_moments():
    def moments(state, group):
        return [x for x in jax.tree.leaves(state.inner_states[group].inner_state.inner) if np.ndim(x)]

    states = [state for _, state in follow(make())]
    assert not any(np.any(x) for state in states[:2] for x in moments(state, "0"))
    assert all(np.all(x) for x in moments(states[2], "0"))
    assert not any(np.any(x) for x in moments(states[4], "1"))


def test_a_step_may_be_several_updates():
    """Of two updates a step, a group of step 2 waits for four."""
    seen = follow(make(num_steps=4, updates=2, unfreeze=(("^block", 2),)))
    same(seen[3][0]["block1"], PARAMS["block1"])
    assert np.all(seen[4][0]["block1"]["kernel"] != PARAMS["block1"]["kernel"])


def test_freezing_goes_before_waiting():
    tx = make(freeze="^stem", unfreeze=(("^block", 2),))
    same(follow(tx)[-1][0]["stem"], PARAMS["stem"])
    assert tx.trains(PARAMS)["stem"] == {"kernel": False} and tx.begins(PARAMS)["block1"] == {"bias": 2, "kernel": 2}


def test_durations_are_the_configs():
    cfg = TrackedConfig(
        {"optim": {**OPTIM, **COMMON, "unfreeze": (("^block", "2 epochs"), ("stem", 5))}, "num_steps": 9}
    )
    cfg = cfg.in_steps(epoch=60, batch_size=20)
    assert cfg.optim.unfreeze == (("^block", 6), ("stem", 5))
    assert optim.make(cfg.optim, 9).begins(PARAMS)["block1"]["bias"] == 6 and "optim.unfreeze" not in cfg.unread()


@pytest.mark.parametrize(
    ("unfreeze", "words"),
    [
        (("^block", 2), "optim.unfreeze has '^block': want a pair"),
        ((("^block", -1),), "optim.unfreeze has ('^block', -1): want a pair"),
        ((("^block", "soon"),), "optim.unfreeze has ('^block', 'soon'): want a pair"),
        ((("(", 1),), "optim.unfreeze has '(', which is no regular expression"),
        ((("^block", 8),), "'^block' trains from step 8 on, and num_steps = 8: begin earlier"),
        ((("^blok", 1),), "'^blok' matches no parameter"),
        ((("^b", 1), ("^block", 2)), "'^block' matches no parameter that is not matched before"),
    ],
)
def test_mistakes(unfreeze, words):
    with pytest.raises(UserError) as caught:
        make(unfreeze=unfreeze).init(jax.tree.map(jnp.asarray, PARAMS))
    assert words in str(caught.value) and "\n" not in str(caught.value)
