import numpy as np
from PIL import Image

from research.data.boxes import letterbox


def test_a_wide_picture_has_grey_above_and_below():
    """8 x 4 pixels on 4 x 4: halved to 4 x 2, one row of grey on each side; red stays red."""
    out = letterbox.picture(Image.new("RGB", (8, 4), "red"), (4, 4, 3))
    assert out.shape == (4, 4, 3)
    assert (out[[0, 3]] == letterbox.GREY).all()
    assert (out[1:3] == [255, 0, 0]).all()


def test_boxes_go_where_the_pixels_go():
    """A white square of 20 pixels in 100 x 60, on a canvas of 50: half as large, 10 pixels down."""
    picture = np.zeros((60, 100), np.uint8)
    picture[20:40, 30:50] = 255
    out = letterbox.picture(Image.fromarray(picture), (50, 50, 1))[..., 0]
    x1, y1, x2, y2 = letterbox.boxes(np.array([[30.0, 20, 50, 40]]), (60, 100), (50, 50, 1))[0]
    assert (x1, y1, x2, y2) == (15, 20, 25, 30)
    assert (out[21:29, 16:24] > 200).all()
    assert out[20:30, 15:25].sum() > 0.95 * (out > 200).sum() * 200
    assert (out[11:19] < 60).all()


def test_a_picture_of_the_canvas_size_is_itself():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox.picture(Image.fromarray(picture), (5, 7, 3)), picture)
