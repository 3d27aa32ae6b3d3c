"""Squares of two photographs: regions that share no pixel, crops that are repeatable."""

import numpy as np

from research.data.images import photographs


def test_regions_share_no_pixel_and_crops_are_of_their_region():
    """In photographs whose pixels hold their column, each part has columns of its own."""
    parts = photographs.load(32, seed=0)
    assert [len(parts[part]) for part in ("train", "valid", "test")] == [2 * 13 * 14, 2 * 13 * 3, 2 * 13 * 3]
    ends = np.cumsum([0] + [source.photographs[0].shape[1] for source in parts.values()])
    assert ends[-1] == 640
    columns = np.broadcast_to(np.arange(640)[:, None], (427, 640, 3))
    for part, (start, end) in zip(parts, zip(ends, ends[1:], strict=False), strict=True):
        numbered = photographs.Crops([columns[:, start:end]], 32, seed=0, random=part == "train")
        pixels = 255 * numbered.gather(np.arange(len(numbered)), 0)["image"]
        assert start <= pixels.min() and pixels.max() < end


def test_training_crops_are_a_function_of_seed_epoch_and_index():
    a, b = (photographs.load(16, seed=3)["train"] for _ in range(2))
    np.testing.assert_array_equal(a.gather(np.array([7, 2]), 1)["image"][::-1], b.gather(np.array([2, 7]), 1)["image"])
    assert not np.array_equal(a.gather(np.array([7]), 1)["image"], a.gather(np.array([7]), 2)["image"])
