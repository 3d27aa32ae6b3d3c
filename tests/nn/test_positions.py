import math

import jax.numpy as jnp
import numpy as np

from research.nn.positions import sinusoids


def test_sinusoids_by_hand():
    # D = 4, base 100: angles 1 and 0.1 a position; the paper's sin, cos, sin, cos as sin, sin, cos, cos.
    got = sinusoids(jnp.array([0, 3]), 4, 100.0)
    want = [[0, 0, 1, 1], [math.sin(3), math.sin(0.3), math.cos(3), math.cos(0.3)]]
    np.testing.assert_allclose(got, want, atol=1e-6)
