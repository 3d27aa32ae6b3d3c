"""Merged parameters: against x W + scale x a b, computed apart in f64."""

import jax
import jax.numpy as jnp
import numpy as np

from research.core import low_rank
from research.core.state import TrainState


def draw(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_merged_is_the_matrix_and_its_adapters_apart():
    x, w, a, b = (draw(*shape, seed=i) for i, shape in enumerate([(5, 48), (48, 32), (48, 4), (4, 32)]))
    frozen = {
        "params": {"up": {"kernel": w, "bias": draw(32, seed=5)}, "norm": draw(3, seed=6)},
        "scale": jnp.float32(0.25),
    }
    head = draw(32, 2, seed=7)
    merged = low_rank.merge(frozen, {"up": {"kernel": {"lora_a": a, "lora_b": b}}, "head": {"kernel": head}})
    x64, w64, a64, b64 = (array.astype(np.float64) for array in (x, w, a, b))
    np.testing.assert_allclose(x @ merged["up"]["kernel"], x64 @ w64 + 0.25 * (x64 @ a64) @ b64, atol=1e-5 * 48**0.5)
    assert set(merged) == {"up", "norm", "head"}
    np.testing.assert_array_equal(merged["up"]["bias"], frozen["params"]["up"]["bias"])
    np.testing.assert_array_equal(merged["norm"], frozen["params"]["norm"])
    np.testing.assert_array_equal(merged["head"]["kernel"], head)


def test_a_stack_of_layers_has_each_its_own():
    w, a, b = draw(2, 6, 4, seed=0), draw(2, 6, 1, seed=1), draw(2, 1, 4, seed=2)
    frozen = {"params": {"h": {"kernel": w}}, "scale": jnp.float32(2.0)}
    merged = low_rank.merge(frozen, {"h": {"kernel": {"lora_a": a, "lora_b": b}}})["h"]["kernel"]
    for layer in range(2):
        np.testing.assert_allclose(merged[layer], w[layer] + 2 * np.outer(a[layer], b[layer]), rtol=1e-5)


def test_the_merged_matrix_has_the_dtype_of_the_frozen_one():
    frozen = {"params": {"kernel": jnp.ones((2, 2))}, "scale": jnp.float32(1.0)}
    merged = low_rank.merge(
        frozen, {"kernel": {"lora_a": jnp.ones((2, 1), "bfloat16"), "lora_b": jnp.ones((1, 2), "bfloat16")}}
    )
    assert merged["kernel"].dtype == jnp.float32 and merged["kernel"].tolist() == [[2, 2], [2, 2]]


def test_a_state_predicts_with_merged_averages():
    def adapters(b):
        return {"kernel": {"lora_a": jnp.ones((1, 1)), "lora_b": jnp.full((1, 1), b)}}

    frozen = {"params": {"kernel": jnp.ones((1, 1))}, "scale": jnp.float32(0.5)}
    model_state = {"frozen": frozen, "statistics": jnp.zeros(3)}
    state = TrainState(jnp.int32(0), adapters(2.0), (), model_state, adapters(4.0), jax.random.key(0), jnp.int32(0))
    assert set(state.variables) == {"params", "statistics"}
    assert float(state.variables["params"]["kernel"][0, 0]) == 3.0  # 1 + 0.5 * 1 * 4
    assert float(state.replace(ema={}).variables["params"]["kernel"][0, 0]) == 2.0
