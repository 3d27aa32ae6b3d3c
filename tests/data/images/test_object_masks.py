"""Masks of objects: numbers without gaps, pieces, the line between two that touch, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from research.data.images.object_masks import ObjectMasks, in_pieces, to_labels
from research.util.errors import UserError

PATH = Path("a.png")


def test_numbers_have_no_gaps_and_the_ground_stays():
    masks = ObjectMasks()
    assert masks.number(np.array([[0, 7, 7], [300, 0, 9]]), PATH).tolist() == [[0, 1, 1], [3, 0, 2]]
    assert masks.number(np.array([[5, 5], [8, 8]]), PATH).tolist() == [[1, 1], [2, 2]]  # without any ground
    assert masks.number(np.zeros((2, 2), int), PATH).tolist() == [[0, 0], [0, 0]]
    assert list(masks.report()) == []


def test_a_number_in_pieces_is_kept_and_told():
    """7 is cut by 9; the two pixels of 9 meet at a corner, and are one piece."""
    mask = np.array([[7, 9, 0], [7, 0, 9], [0, 7, 0], [0, 0, 7], [7, 0, 0]])
    assert in_pieces(np.array([[1, 0, 1, 2]])) == [1]
    masks = ObjectMasks()
    assert masks.number(mask, PATH)[4, 0] == masks.number(mask, PATH)[0, 0] == 1
    assert list(masks.report()) == [
        "warning  masks with a number in separate pieces, which is one object: 2",
        *["         a.png: 1 of 2 (7)"] * 2,
    ]


def test_what_cannot_be_numbered_is_refused():
    with pytest.raises(UserError, match="a.png has the number -3: objects have numbers from 1 on"):
        ObjectMasks().number(np.array([[0, -3]]), PATH)
    most = np.arange(1, 65_537).reshape(256, 256)
    with pytest.raises(UserError, match="a.png has 65,536 objects, more than 65,535"):
        ObjectMasks().number(most, PATH)
    assert ObjectMasks().number(np.minimum(most, 65_535), PATH).max() == 65_535


def test_the_line_is_where_two_objects_touch():
    assert to_labels(np.array([[1, 1, 1, 2, 2, 2]])).tolist() == [[1, 1, 0, 0, 1, 1]]
    corner = np.array([[1, 1, 0], [0, 0, 2], [0, 0, 2]], np.uint16)  # across a corner they do not touch
    assert to_labels(corner).tolist() == (corner > 0).astype(int).tolist()


def test_the_regions_of_the_labels_are_parts_of_one_object_each():
    numbers = ndimage.zoom(np.random.default_rng(0).integers(0, 5, (6, 7)), 5, order=0)
    regions, count = ndimage.label(to_labels(numbers))
    of_one = [len(np.unique(numbers[regions == i])) for i in range(1, count + 1)]
    assert count > 5 and of_one == [1] * count
    stack = np.stack([numbers, numbers[::-1]])
    np.testing.assert_array_equal(to_labels(stack)[1], to_labels(numbers)[::-1])
