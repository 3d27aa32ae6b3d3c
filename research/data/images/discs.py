"""Generated pictures of discs that touch, and the number of the disc that each pixel is of."""

import numpy as np

RADII = (5.0, 9.0)  # pixels
CLOSEST = 0.75  # of the sum of two radii: how near their centres may be
TRIES = 60  # places that are tried: about a dozen discs on 64 x 64 pixels
NOISE = 0.35  # standard deviation; a disc is 0.7, the ground 0.3


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """-> a picture u8[size, size], and the discs' numbers u16[size, size], 0 for the ground.

    Discs are as bright as each other, so that their outline alone tells where one ends. Where two overlap a pixel is of the
    one whose edge is further away.
    """
    discs = np.empty((0, 3))  # y, x, radius
    for _ in range(TRIES):
        disc = np.array([*rng.uniform(0, size, 2), rng.uniform(*RADII)])
        if (np.hypot(*(discs - disc)[:, :2].T) > CLOSEST * (discs[:, 2] + disc[2])).all():
            discs = np.vstack([discs, disc])
    y, x, radius = discs.T[:, :, None, None]
    rows, columns = np.mgrid[:size, :size]
    outside = np.hypot(rows - y, columns - x) - radius
    numbers = np.where(outside.min(0) < 0, outside.argmin(0) + 1, 0).astype(np.uint16)
    picture = np.where(numbers > 0, 0.7, 0.3) + NOISE * rng.standard_normal((size, size))
    return np.round(255 * picture.clip(0, 1)).astype(np.uint8), numbers
