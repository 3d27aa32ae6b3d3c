"""What a linear code of as many bits reaches: principal components, each rounded to levels of its own."""

import numpy as np

ROUNDS = 50  # of Lloyd's algorithm


def coding_error(train: np.ndarray, held_out: np.ndarray, bits: float) -> float:
    """Mean squared error a pixel of pictures f[m, P], coded by principal components of f[n, P] with `bits` bits a picture.

    Each bit goes to the component whose error on `train` is the largest; a component of b bits is rounded to the nearest of 2^b
    levels, which Lloyd's algorithm fits to `train`.
    """
    mean = train.mean(0, dtype=np.float64)
    centred = train - mean
    _, axes = np.linalg.eigh(centred.T @ centred / len(train))
    ours, theirs = centred @ axes, (held_out - mean) @ axes
    errors, counts = np.square(ours).mean(0), np.zeros(len(axes), int)
    levels = {}
    for _ in range(int(bits)):
        component = int(errors.argmax())
        counts[component] += 1
        levels[component] = lloyd(ours[:, component], 2 ** counts[component])
        errors[component] = np.square(ours[:, component] - rounded(ours[:, component], levels[component])).mean()
    for component, values in levels.items():
        theirs[:, component] -= rounded(theirs[:, component], values)
    return float(np.square(theirs).mean())


def lloyd(values: np.ndarray, count: int) -> np.ndarray:
    """`count` levels for values f[n], ascending: each the mean of the values that are nearest to it (Lloyd 1982)."""
    levels = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(ROUNDS):
        cells = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
        sizes = np.bincount(cells, minlength=count)
        sums = np.bincount(cells, weights=values, minlength=count)
        levels = np.sort(np.where(sizes > 0, sums / np.maximum(sizes, 1), levels))
    return levels


def rounded(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Each value's nearest level; levels ascend."""
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
