"""A picture of any size on a canvas of a fixed one: scaled as a whole, centred, the margins grey."""

import numpy as np
from PIL import Image

from research.data.images import image_files
from research.data.images.image_files import Shape

GREY = 128  # of the margins


def picture(image: Image.Image, shape: Shape) -> np.ndarray:
    """An image -> u8[Y, X, C], bilinear. As `image_files.fit`, what is transparent shows white and 16 bits are scaled."""
    rows, columns, channels = shape
    scale = min(rows / image.height, columns / image.width)
    height, width = (max(1, round(side * scale)) for side in (image.height, image.width))
    canvas = np.full(shape, GREY, np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    whole = image_files.fit(image, (image.height, image.width, channels))
    small = Image.fromarray(whole.squeeze(-1) if channels == 1 else whole).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    canvas[top : top + height, left : left + width] = np.asarray(small).reshape(height, width, channels)
    return canvas


def boxes(boxes: np.ndarray, size: tuple[int, int], shape: Shape) -> np.ndarray:
    """Boxes f[n, 4] in the pixels of a picture of `size` (Y, X) -> on the canvas.

    >>> boxes(np.array([[0.0, 0, 8, 4]]), (4, 8), (4, 4, 1)).tolist()
    [[0.0, 1.0, 4.0, 3.0]]
    """
    scale = min(shape[0] / size[0], shape[1] / size[1])
    margin = [(shape[1] - size[1] * scale) / 2, (shape[0] - size[0] * scale) / 2]
    return boxes * scale + np.tile(margin, 2)
