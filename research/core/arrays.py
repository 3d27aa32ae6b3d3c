"""The arrays that layers, models and losses take."""

import jax
import numpy as np

Array = jax.Array | np.ndarray  # a device's or a tracer; or a host's, which JAX puts on the device
