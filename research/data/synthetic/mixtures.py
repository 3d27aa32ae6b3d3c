"""Samples of known distributions."""

import numpy as np

# The 2D-grid of PacGAN (Lin et al. 2018, 1712.04086, section 4.1), after VEEGAN (1705.07761).
_AXIS = np.arange(-4.0, 5.0, 2.0)
GRID_CENTRES = np.stack([np.repeat(_AXIS, 5), np.tile(_AXIS, 5)], axis=-1)
GRID_STD = 0.05


def mixture(centres: np.ndarray, std: float, num_examples: int, seed: int, pack: int = 1) -> dict[str, np.ndarray]:
    """Packs of points of a uniform mixture of isotropic Gaussians: {"x": f32[num_examples, pack * D]}.

    `centres` is f[M, D]. `num_examples` points are drawn; a row is then `pack` of them, drawn with
    replacement, as in PacGAN's code, even if `pack` is 1. Pure in its arguments.
    """
    rng = np.random.default_rng(seed)
    modes = rng.integers(len(centres), size=num_examples)
    points = centres[modes] + std * rng.standard_normal((num_examples, centres.shape[1]))
    rows = rng.integers(num_examples, size=(num_examples, pack))
    return {"x": points[rows].reshape(num_examples, -1).astype(np.float32)}
