"""Tiling by hand, and PNG files read back."""

import sys

import numpy as np
from PIL import Image

from research.evals.images import grid, save_png, save_scatter, save_tiles


def test_grid_by_hand():
    images = np.stack([np.full((1, 2, 1), v) for v in (0.2, 0.4, 1.5)])
    np.testing.assert_array_equal(grid(images, columns=2)[..., 0], [[51, 51, 102, 102], [255, 255, 0, 0]])
    assert grid(np.zeros((10, 3, 5, 3))).shape == (9, 20, 3)
    assert grid(images, columns=3).shape == (1, 6, 1)


def test_png_holds_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        pixels = grid(rng.random((4, 5, 7, channels)))
        save_png(tmp_path / "x.png", pixels)
        with Image.open(tmp_path / "x.png") as read:
            np.testing.assert_array_equal(np.asarray(read).reshape(pixels.shape), pixels)


def test_tiles_have_black_edges_and_whole_pixels(tmp_path):
    save_tiles(tmp_path / "x.png", np.ones((3, 2, 2, 1)), columns=2)
    with Image.open(tmp_path / "x.png") as read:
        pixels = np.asarray(read)
    assert pixels.shape == (400, 400)  # 2 x 2 tiles of 4 x 4 pixels, 50 times
    assert pixels[::50, ::50].tolist() == [
        [0] * 8, [0, 255, 255, 0] * 2, [0, 255, 255, 0] * 2, [0] * 8,
        [0] * 8, [0, 255, 255, 0, 0, 0, 0, 0], [0, 255, 255, 0, 0, 0, 0, 0], [0] * 8,
    ]  # fmt: skip


def test_scatter_draws_without_global_state(tmp_path):
    centres = np.array([[-4.0, -4.0], [4.0, 4.0]])
    save_scatter(tmp_path / "a.png", centres, centres)
    save_scatter(tmp_path / "b.png", -centres * [1, -1], centres)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.size == b.size and a.tobytes() != b.tobytes()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
