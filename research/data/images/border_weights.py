"""Weights of pixels between objects that nearly touch (Ronneberger et al. 2015, 1505.04597, equation 2)."""

import numpy as np

from research.data.defaults import VOID

FAR = 6  # standard deviations beyond which an object adds less than w0 e^-18, and is not looked at


def border_weights(labels: np.ndarray, w0: float = 10.0, sigma: float = 5.0, ground: int = 0) -> np.ndarray:
    """Labels i[Y, X] -> w0 exp(-(d1 + d2)² / (2 sigma²)) of each pixel, f32[Y, X].

    d1 and d2 are its distances to the nearest and the second nearest object: a 4-connected region of
    labels that are not `ground` (void is ground, too). Zero where fewer than two are near.
    """
    from scipy import ndimage  # slow to import

    objects, _ = ndimage.label((labels != ground) & (labels != VOID))
    margin = int(np.ceil(FAR * sigma))
    first = np.full(labels.shape, np.inf)
    second = first.copy()
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        near = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
        distance = ndimage.distance_transform_edt(objects[near] != number)
        second[near] = np.minimum(second[near], np.maximum(first[near], distance))
        first[near] = np.minimum(first[near], distance)
    return (w0 * np.exp(-np.square(first + second) / (2 * sigma**2))).astype(np.float32)
