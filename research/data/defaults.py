"""Defaults of configs' data options; plain values, so that configs need not import JAX."""

AUGMENT = {  # augment.py
    "crop": 0,  # pixels of zero padding on each side before cropping to the original size
    "flip": 0.0,  # probability of a left-right flip
    "erase": 0.0,  # probability of random erasing
    "erase_area": (0.02, 0.4),  # fraction of the image
    "erase_aspect": 0.3,  # height / width lies between this and its inverse
    "erase_fill": None,  # grey level in 0..1; None is uniform noise
    "mixup": 0.0,  # alpha of Beta(alpha, alpha)
    "smoothing": 0.0,  # label smoothing
    "mean": 0.0,  # one number, or one per channel
    "std": 1.0,
}
