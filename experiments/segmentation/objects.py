"""From the probabilities of a class to its objects, each with a number."""

import numpy as np


def separate(probability: np.ndarray, inside: np.ndarray, markers: float | None = None) -> np.ndarray:
    """The objects of the pixels `inside`, bool[Y, X], as i32[Y, X]: 1, 2, ..., and 0 for the ground.

    An object is a 4-connected region. With `markers` it is what grows by a watershed on f[Y, X] `probability`
    from a 4-connected region of a higher one than `markers`; a region without any is ground.
    """
    from scipy import ndimage  # slow to import

    if markers is None:
        return ndimage.label(inside)[0]
    seeds, _ = ndimage.label(inside & (probability > markers))
    seeds[~inside] = -1  # no object grows over the ground
    heights = np.round(255 * (1 - probability)).astype(np.uint8)
    return np.maximum(ndimage.watershed_ift(heights, seeds), 0)
