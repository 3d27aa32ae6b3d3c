import numpy as np
import pytest

from research.data.boxes.digits import MOST, DigitCanvas
from research.util.errors import UserError


def test_a_picture_is_a_function_of_seed_and_index():
    source = DigitCanvas("train", 48, 0)
    batch, again = source.gather(np.array([5, 2, 5])), source.gather(np.array([2]), epoch=3)
    assert batch["image"].shape == (3, 48, 48, 1)
    for name, values in batch.items():
        np.testing.assert_array_equal(values[0], values[2])
        np.testing.assert_array_equal(values[1], again[name][0])
    assert (DigitCanvas("train", 48, 1).gather(np.array([5]))["image"] != batch["image"][0]).any()
    assert (DigitCanvas("valid", 48, 0).gather(np.array([5]))["image"] != batch["image"][0]).any()


def test_boxes_hold_the_ink_and_do_not_touch():
    source = DigitCanvas("valid", 64, 0)
    batch = source.gather(np.arange(40))
    for i in range(40):
        ink, count = batch["image"][i, ..., 0] > 0.2, int(batch["box_mask"][i].sum())
        assert 1 <= count <= MOST
        covered = np.zeros_like(ink, int)
        for x1, y1, x2, y2 in batch["boxes"][i, batch["box_mask"][i] > 0].astype(int):
            covered[y1:y2, x1:x2] += 1
            assert ink[y1:y2, x1:x2].any()
        assert covered.max() == 1
        assert not (ink & (covered == 0)).any()
        truth = source.truth(i)
        assert len(truth.boxes) == count
        assert not truth.ignored.any()
    assert set(batch["labels"][batch["box_mask"] > 0]) == set(range(10))


def test_a_canvas_is_large_enough():
    with pytest.raises(UserError, match="data.size = 16"):
        DigitCanvas("train", 16, 0)
