import re

import jax.numpy as jnp
import numpy as np
import pytest

from research.core import metrics
from research.util.errors import UserError


def test_pair_weighs_values_and_counts_in_float32():
    values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    assert metrics.pair(values) == (10, 4)
    assert metrics.pair(values, jnp.array([1.0, 0.5])) == (1 + 2 + 1.5 + 2, 3)  # of rows
    total, weight = metrics.pair(jnp.ones(1000, jnp.bfloat16), jnp.ones(1000, jnp.bfloat16))
    assert (total, weight) == (1000, 1000)  # bfloat16 would end at 256
    assert total.dtype == weight.dtype == jnp.float32


def test_the_mean_of_sums_is_the_mean_over_all_rows():
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=n), rng.uniform(size=n)) for n in (3, 1, 7)]
    rows = [{"loss": metrics.pair(jnp.array(v), jnp.array(w))} for v, w in parts]
    want = np.average(np.concatenate([v for v, _ in parts]), weights=np.concatenate([w for _, w in parts]))
    total = [sum(part) for part in zip(*(row["loss"] for row in rows), strict=True)]
    assert float(metrics.mean(total)) == pytest.approx(want, rel=1e-6)
    assert metrics.reduce(rows) == {"loss": pytest.approx(want, rel=1e-6)}


def test_nothing_weighed():
    assert metrics.mean((jnp.array(0.0), jnp.array(0.0))) == 0
    assert np.isnan(metrics.reduce([{"loss": (0.0, 0.0)}])["loss"])


def test_reduce_adds_in_double_precision_and_takes_names_as_they_come():
    rows = [{"a": (2.0**24, 1.0)}] + [{"a": (1.0, 0.0), "b": (6.0, 4.0)}] * 2
    assert metrics.reduce(rows) == {"a": 2**24 + 2, "b": 1.5}


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), (1,), (2, 3, 1), (3, 2)])
def test_weights_that_only_broadcast_are_refused(shape):
    """By NumPy's rule f32[3] would weigh the columns of [2, 3], and [2, 1] its rows, with a weight that is counted once."""
    with pytest.raises(UserError, match=re.escape(f"weights of shape {list(shape)} for values of [2, 3]")):
        metrics.pair(jnp.ones((2, 3)), jnp.ones(shape))
    for right in ((), (2,), (2, 3)):
        assert metrics.pair(jnp.ones((2, 3)), jnp.ones(right)) == (6, 6)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (jnp.ones(4), "metric 'error' is an array of shape [4]: want (sum, weight)"),
        (1.0, "metric 'error' is a float"),
        ((jnp.ones(4), jnp.ones(())), "metric 'error' has shapes sum [4], weight []"),
        ((jnp.ones(()), jnp.ones(4)), "metric 'error' has shapes sum [], weight [4]"),
        ((1.0, 1.0, 1.0), "metric 'error' is 3 values: want (sum, weight)"),
    ],
)
def test_a_metric_is_a_pair_of_scalars(value, words):
    with pytest.raises(UserError, match=re.escape(words)):
        metrics.check({"loss": (1.0, 1.0), "error": value})
