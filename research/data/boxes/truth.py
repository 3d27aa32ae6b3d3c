"""The annotated boxes of one picture, as an evaluation takes them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Truth(NamedTuple):
    """Boxes (x1, y1, x2, y2), x1 < x2. `ignored` ones (COCO's crowds, VOC's difficult) are neither asked for nor a mistake."""

    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignored: Bool[np.ndarray, " n"]
