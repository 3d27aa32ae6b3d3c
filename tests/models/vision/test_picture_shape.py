import numpy as np
import pytest

from research.models.vision import picture_shape
from research.util.errors import UserError


def test_pictures_of_another_shape_are_refused():
    picture_shape.check(np.zeros((5, 4, 6, 1), np.float32), (4, 6, 1))
    with pytest.raises(UserError, match=r"pictures of \[4, 6, 1\]; this model takes \[4, 6, 3\]"):
        picture_shape.check(np.zeros((5, 4, 6, 1), np.float32), (4, 6, 3))


@pytest.mark.parametrize("shape, patch", [((8, 8, 1), 3), ((4, 8, 1), 8), ((8, 8, 1), 0)])
def test_a_picture_is_a_whole_number_of_patches(shape, patch):
    picture_shape.patches((8, 12, 3), 4)
    with pytest.raises(UserError, match=f"model.patch = {patch}: pictures of {shape[0]} x {shape[1]}"):
        picture_shape.patches(shape, patch)
