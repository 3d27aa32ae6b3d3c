import jax.numpy as jnp
import numpy as np
import pytest

from research.algorithms import average
from research.util.errors import UserError


def test_mean_by_hand():
    trees = [{"a": np.float32([1, 2]), "b": [jnp.bfloat16(1)]}, {"a": np.float32([4, 2]), "b": [jnp.bfloat16(2)]},
             {"a": np.float32([4, 5]), "b": [jnp.bfloat16(6)]}]  # fmt: skip
    mean = average.mean(iter(trees))
    np.testing.assert_array_equal(mean["a"], np.float32([3, 3]))
    assert mean["a"].dtype == np.float32 and mean["b"][0] == 3 and mean["b"][0].dtype == jnp.bfloat16


def test_sums_are_wide():
    """In f32, 1e8 + 1 is 1e8: of 1e8 and four 1s and -1e8 only 0 would be left of 4/6."""
    trees = [{"a": np.float32(x)} for x in (1e8, 1, 1, 1, 1, -1e8)]
    assert average.mean(trees)["a"] == np.float32(4 / 6)


def test_one_tree_is_itself_and_none_is_an_error():
    assert average.mean([{"a": np.float32(0.1)}])["a"] == np.float32(0.1)
    with pytest.raises(UserError, match="nothing to average"):
        average.mean([])
