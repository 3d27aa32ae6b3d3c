"""A NaN or Inf is traced to its source in each kind of operation; what does not reach the result is not reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from tools.doctor import nan_tracer

X = jnp.array([1.0, 0.0, 100.0, -2.0])


@jax.custom_jvp
def reciprocal(x):
    return 1 / x


reciprocal.defjvp(lambda primals, tangents: (reciprocal(*primals), -tangents[0] / primals[0] ** 2))


def in_scan(x):
    return jax.lax.scan(lambda total, row: (total + jnp.exp(row), total), 0.0, x)[0]


def in_while(x):
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.exp(c[1])), (0, x[2]))[1]


def in_cond(x):
    return jax.lax.cond(x[0] > 0, jnp.log, jnp.abs, x[3])


CASES = {
    "division": (lambda x: 1 / x, "Inf", "div"),
    "overflow": (lambda x: jnp.exp(x), "Inf", "exp"),
    "logarithm": (lambda x: jnp.log(x).sum(), "NaN", "log"),
    "jit": (lambda x: jax.jit(jnp.sqrt)(x), "NaN", "sqrt"),
    "remat": (jax.grad(jax.checkpoint(lambda x: jnp.sqrt(x * x).sum())), "NaN", "mul"),
    "custom_jvp": (reciprocal, "Inf", "div"),
    "scan": (in_scan, "Inf", "exp"),
    "while": (in_while, "Inf", "exp"),
    "cond": (in_cond, "NaN", "log"),
    "out of bounds": (lambda x: jnp.take(x, jnp.array([0, 9])), "NaN", "gather"),
    "bfloat16": (lambda x: jnp.exp(x.astype(jnp.bfloat16)), "Inf", "exp"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_operation_is_named_with_its_line(case):
    fn, kind, operation = CASES[case]
    source = nan_tracer.trace(fn, x=X)
    assert (source.kind, source.operation) == (kind, operation)
    assert "test_nan_tracer.py:" in source.source


def test_a_scan_is_run_iteration_by_iteration():
    assert nan_tracer.trace(in_scan, x=X).scope.endswith("[2]")


def test_both_passes_are_told_apart():
    back = nan_tracer.trace(jax.grad(lambda x: 1e30 * (1e30 * x[1])), x=X)  # x[1] is 0, and its gradient 1e60
    assert "(backward)" in back.lines()[0]
    forward = nan_tracer.trace(jax.grad(lambda x: jnp.log(x[3])), x=jnp.full(4, jnp.nan))
    assert "(backward)" not in forward.lines()[0]


def test_what_is_discarded_is_not_reported():
    def masked(x):
        scores = jnp.where(x > 0, x, -jnp.inf)
        unused = jnp.log(x)
        safe = jnp.where(x > 0, unused, 0.0)
        return jax.nn.softmax(scores) + safe

    assert nan_tracer.trace(masked, x=X) is None


def test_a_nan_made_from_an_inf_reports_both():
    source = nan_tracer.trace(lambda x: jnp.exp(x) - jnp.exp(x), x=X)
    assert (source.kind, source.operation, source.cause.kind, source.cause.operation) == ("NaN", "sub", "Inf", "exp")
    text = "\n".join(source.lines())
    assert "float32[4], -2 to 100" in text and "1 of 4 not finite, the first at [2]" in text


def test_the_first_of_two_that_both_reach_the_result():
    assert nan_tracer.trace(lambda x: (jnp.sqrt(x), jnp.log(x)), x=X).operation == "sqrt"


def test_an_input_is_named():
    source = nan_tracer.trace(
        lambda state, batch: state["w"] * batch["x"], state={"w": X}, batch={"x": X.at[3].set(jnp.nan)}
    )
    assert (source.kind, source.source) == ("NaN", "batch/x")
    assert source.lines()[:2] == ["NaN in an input", "at batch/x"]


def test_sharded_arrays():
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    split = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert nan_tracer.trace(lambda x: jnp.log(x).sum(), x=split).operation == "log"


def test_named_values_come_in_their_order():
    def fn(x, scale):
        pair = checkpoint_name({"a": 2 * x, "b": x + 1}, "left/gradient")
        other = checkpoint_name(scale * pair["b"], "something else")
        return {"sum": (pair["a"] + other).sum()}, checkpoint_name(pair["a"] - 1, "right/gradient")

    result, values = nan_tracer.named_values(fn, "gradient", X, 3.0)
    assert [name for name, _ in values] == ["left/gradient", "left/gradient", "right/gradient"]
    for (_, value), expected in zip(values, (2 * X, X + 1, 2 * X - 1), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert float(result[0]["sum"]) == float((2 * X + 3 * (X + 1)).sum())
