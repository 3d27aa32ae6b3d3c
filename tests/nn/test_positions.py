import math

import jax.numpy as jnp
import numpy as np

from research.nn.positions import sinusoids, sinusoids_2d


def test_sinusoids_by_hand():
    # D = 4, base 100: angles 1 and 0.1 a position; the paper's sin, cos, sin, cos as sin, sin, cos, cos.
    got = sinusoids(jnp.array([0, 3]), 4, 100.0)
    want = [[0, 0, 1, 1], [math.sin(3), math.sin(0.3), math.cos(3), math.cos(0.3)]]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_grid_has_the_column_and_the_row_in_quarters():
    """By hand, width 8: frequencies 1 and 1 / base."""
    made = np.asarray(sinusoids_2d(2, 3, 8, base=100.0))
    for y in range(2):
        for x in range(3):
            expected = [f(p * w) for p in (x, y) for f in (np.sin, np.cos) for w in (1, 0.01)]
            np.testing.assert_allclose(made[3 * y + x], expected, atol=1e-6)
