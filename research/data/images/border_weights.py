"""Weights of pixels between objects that nearly touch (Ronneberger et al. 2015, 1505.04597, equation 2)."""

import numpy as np

from research.data.defaults import VOID

FAR = 6  # standard deviations beyond which an object adds less than w0 e^-18, and is not looked at


def regions(labels: np.ndarray) -> np.ndarray:
    """Labels i[Y, X] -> objects i[Y, X]: the 4-connected regions of labels that are neither 0, the ground, nor void."""
    from scipy import ndimage  # slow to import

    return ndimage.label((labels != 0) & (labels != VOID))[0]


def border_weights(objects: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Objects i[Y, X], 1, 2, ... and 0 for the ground -> w0 exp(-(d1 + d2)² / (2 sigma²)) of each pixel, f32[Y, X].

    d1 and d2 are its distances to the nearest and the second nearest object. Zero where fewer than two are near.
    """
    from scipy import ndimage  # slow to import

    margin = int(np.ceil(FAR * sigma))
    first = np.full(objects.shape, np.inf)
    second = first.copy()
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        if box is None:  # a number that no pixel has
            continue
        near = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
        distance = ndimage.distance_transform_edt(objects[near] != number)
        second[near] = np.minimum(second[near], np.maximum(first[near], distance))
        first[near] = np.minimum(first[near], distance)
    return (w0 * np.exp(-np.square(first + second) / (2 * sigma**2))).astype(np.float32)
