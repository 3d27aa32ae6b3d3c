"""Balanced gradients of two tasks: by hand, against the papers' procedures, and in a step."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.algorithms import gradient_balance
from research.core import mesh as mesh_lib
from research.core import state as state_lib
from research.core.metrics import pair
from research.core.step import make_train_step

RNG = np.random.default_rng(0)


def factors(name, a, b):
    return [float(x) for x in gradient_balance.RULES[name](*(jnp.float32(x @ y) for x, y in ((a, a), (a, b), (b, b))))]


@pytest.mark.parametrize("seed", range(6))
def test_pcgrad_is_the_projection(seed):
    """Algorithm 1 of the paper for two tasks: each gradient is projected onto the other's normal plane where they conflict."""
    a, b = np.random.default_rng(seed).normal(size=(2, 3))
    wants = []
    for g, other in ((a, b), (b, a)):
        wants.append(g - g @ other / (other @ other) * other if g @ other < 0 else g)
    weight_a, weight_b = factors("pcgrad", a, b)
    np.testing.assert_allclose(weight_a * a + weight_b * b, wants[0] + wants[1], atol=1e-5)


def test_pcgrad_by_hand():
    """a = (1, 0) and b = (-1, 1): a' = (1/2, 1/2), b' = (0, 1). Opposite gradients cancel, and those that agree are added."""
    a, b = np.array([1.0, 0]), np.array([-1.0, 1])
    weight_a, weight_b = factors("pcgrad", a, b)
    np.testing.assert_allclose(weight_a * a + weight_b * b, [0.5, 1.5], atol=1e-6)
    assert factors("pcgrad", a, -2 * a) == [3, 1.5]  # 3 a + 1.5 (-2 a) = 0
    assert factors("pcgrad", a, 3 * a) == [1, 1]
    assert factors("pcgrad", a, 0 * a) == [1, 1]


@pytest.mark.parametrize("seed", range(6))
def test_mgda_is_the_shortest_of_all_mixtures(seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 2)) * [[1], [2]]
    w = np.linspace(0, 1, 100_001)
    best = w[np.linalg.norm(w[:, None] * a + (1 - w[:, None]) * b, axis=1).argmin()]
    assert factors("mgda", a, b) == [pytest.approx(best, abs=1e-4), pytest.approx(1 - best, abs=1e-4)]


def test_mgda_by_hand():
    a = np.array([2.0, 0])
    assert factors("mgda", a, np.array([0, 1.0])) == pytest.approx([0.2, 0.8])  # (0.4, 0.8) is normal to b - a
    assert factors("mgda", a, 3 * a) == [1, 0]  # the shorter of two in one direction
    assert factors("mgda", a, -a) == [0.5, 0.5]
    assert factors("mgda", a, a) == [0.5, 0.5]


def loss(params, model_state, batch, key):
    """Two tasks of x w + own, with targets y and z, in which rows weigh differently."""
    out = batch["x"] @ params["w"]
    left = pair((out + params["left"] - batch["y"]) ** 2, batch["m"])
    right = pair((out + params["right"] - batch["z"]) ** 2)
    return {"l": (*left, 1.0), "r": (*right, 0.5)}, ({"loss": right}, model_state)


BATCH = {k: RNG.normal(size=s).astype("f") for k, s in {"x": (8, 3), "y": 8, "z": 8}.items()}
BATCH |= {"m": np.array([1, 0, 2, 1, 0, 0, 1, 3], np.float32), "y": BATCH["z"] - 2 * BATCH["x"].sum(1)}


def by_hand():
    """The gradients of both terms at w = 0.1, left = 1, right = -1."""
    out = BATCH["x"].sum(1) * 0.1
    residuals = {"l": (out + 1 - BATCH["y"]) * 2 * BATCH["m"] / 8, "r": (out - 1 - BATCH["z"]) / 8}
    return {name: (BATCH["x"].T @ r, r.sum()) for name, r in residuals.items()}


@pytest.mark.parametrize("name", ["pcgrad", "mgda"])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_balances_the_shared_gradients_of_the_whole_batch(name, parts):
    """Microbatches are summed first: balancing each would be another gradient. What one task has alone is not weighed."""
    params = {"w": jnp.full(3, 0.1), "left": jnp.float32(1), "right": jnp.float32(-1)}
    tx = optax.sgd(1.0)
    state = state_lib.create(lambda key: {"params": params}, tx, 0, mesh_lib.make_mesh({"data": 1}), (), False)
    step = make_train_step(loss, tx, accumulate=parts, **gradient_balance.estimator(name, "^(left|right)$"))
    after, metrics = step(state, BATCH)
    hand = by_hand()
    (a, own_a), (b, own_b) = hand["l"], hand["r"]
    assert a @ b < 0
    weight_a, weight_b = factors(name, a, b)
    np.testing.assert_allclose(after.params["w"], 0.1 - weight_a * a - weight_b * b, atol=1e-5)
    assert float(after.params["left"]) == pytest.approx(1 - own_a, abs=1e-5)
    assert float(after.params["right"]) == pytest.approx(-1 - own_b, abs=1e-5)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert float(metrics["cosine"][0]) == pytest.approx(cosine, abs=1e-5)
    assert float(metrics["l_weight"][0]) == pytest.approx(weight_a, abs=1e-5)
