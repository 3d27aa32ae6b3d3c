"""The annotated boxes of one picture, as an evaluation takes them."""

from typing import NamedTuple

import numpy as np


class Truth(NamedTuple):
    """Boxes f[n, 4] as (x1, y1, x2, y2), x1 < x2, and labels i[n].

    Those `ignored`, bool[n] (COCO's crowds, VOC's difficult), are neither asked for nor a mistake.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
