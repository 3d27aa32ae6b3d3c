"""From the probabilities of a class to its objects, each with a number."""

from typing import Any

import numpy as np

from research.data.images.object_masks import MOST
from research.util.errors import UserError


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


def describe(numbers: np.ndarray, probability: np.ndarray, label: str) -> list[dict[str, Any]]:
    """What is known of each object of a map i[Y, X], in the order of their numbers.

    {"number", "label", "bbox": [x, y, width, height] as COCO has it, "area": pixels, "probability": the mean of f[Y, X]
    `probability` over them}. Raises UserError if there are more than 65,535.
    """
    from scipy import ndimage  # slow to import

    if (count := int(numbers.max(initial=0))) > MOST:
        raise UserError(
            f"{count:,} objects of {label}, more than {MOST:,}: set markers, or predict a part of the picture"
        )
    areas = np.bincount(numbers.ravel())
    sums = np.bincount(numbers.ravel(), probability.ravel())
    return [
        {
            "number": i,
            "label": label,
            "bbox": [x.start, y.start, x.stop - x.start, y.stop - y.start],
            "area": int(areas[i]),
            "probability": round(float(sums[i] / areas[i]), 4),
        }
        for i, (y, x) in enumerate(ndimage.find_objects(numbers), start=1)
    ]
