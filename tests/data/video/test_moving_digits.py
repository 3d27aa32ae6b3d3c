"""Paths by hand arithmetic; pictures on the torus; no single frame tells the class."""

import numpy as np
import pytest
from scipy import stats

from research.data.video import moving_digits
from research.data.video.moving_digits import MOTIONS, MovingDigits, Path, path, render


class Middle:
    """Random numbers that are the middle of their range: speed 1, phase 1/2, radius 2.5, scale 0.8, period 9; and a start."""

    def __init__(self, start=(8, 8)):
        self.start = np.array(start, float)

    def uniform(self, low=0.0, high=1.0, size=None):
        return self.start if size else (low + high) / 2

    def integers(self, high):
        return 1


@pytest.mark.parametrize(
    ("motion", "third"),
    [("left", (6, 8)), ("right", (10, 8)), ("up", (8, 6)), ("down", (8, 10))],
)
def test_lines(motion, third):
    where = path(motion, 3, 16, Middle())
    np.testing.assert_allclose(where.centre[[0, 2]], [(8, 8), third])
    np.testing.assert_allclose(where.scale, [0.8] * 3)


def test_circles():
    """From the leftmost point, 1 / 2.5 radians a frame; clockwise on the screen is up at first."""
    for motion, sign in (("clockwise", -1), ("anticlockwise", 1)):
        np.testing.assert_allclose(
            path(motion, 2, 16, Middle()).centre,
            [(5.5, 8), (8 - 2.5 * np.cos(0.4), 8 + sign * 2.5 * np.sin(0.4))],
        )


def test_to_and_fro_turns_and_a_zoom_changes_the_scale_alone():
    centre = path("to_and_fro", 7, 16, Middle()).centre
    np.testing.assert_allclose(centre[:, 0], 8)
    np.testing.assert_allclose(centre[:, 1], [10.5, 9.5, 8.5, 7.5, 6.5, 5.5, 6.5])
    where = path("zoom", 3, 16, Middle())
    np.testing.assert_allclose(where.centre, np.full((3, 2), 8))
    np.testing.assert_allclose(where.scale, [1.0, 0.6 + 0.4 * 7 / 9, 0.6 + 0.4 * 5 / 9])


def test_left_backwards_is_right():
    digits = np.random.default_rng(0).uniform(size=(1, 8, 8)).repeat(6, 0)
    left = render(digits, path("left", 6, 16, Middle((8, 3))), 16)
    right = render(digits, path("right", 6, 16, Middle((8 - 5, 3))), 16)
    np.testing.assert_array_equal(left[::-1], right)
    assert (left != right).any()


def test_a_digit_at_scale_1_is_its_pixels_and_wraps_round():
    digit = np.random.default_rng(0).uniform(size=(1, 8, 8))
    at = lambda x, y: render(digit, Path(np.array([[x, y]]), np.ones(1)), 12)[0, ..., 0]  # noqa: E731
    canvas = np.zeros((12, 12), np.uint8)
    canvas[:8, :8] = np.rint(255 * digit[0])
    np.testing.assert_array_equal(at(3.5, 3.5), canvas)
    np.testing.assert_array_equal(at(3.5 - 2, 3.5 + 7), np.roll(canvas, (7, -2), (0, 1)))
    np.testing.assert_allclose(at(3.5, 4), (canvas + np.roll(canvas, 1, 0).astype(float)) / 2, atol=1)


@pytest.mark.parametrize("motion", MOTIONS)
def test_no_frame_tells_the_motion(motion):
    """Place and scale are uniform in the first frame and in the last (Kolmogorov and Smirnov)."""
    paths = [path(motion, 8, 16, np.random.default_rng((7, i))) for i in range(500)]
    low, high = moving_digits.SCALES
    for frame in (0, 7):
        centres = np.array([each.centre[frame] for each in paths]) % 16 / 16
        scales = (np.array([each.scale[frame] for each in paths]) - low) / (high - low)
        for values in (*centres.T, scales):
            assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_a_clip_is_a_function_of_seed_part_and_index():
    clips = {part: MovingDigits(part, 20, 6, 16, seed=3) for part in moving_digits.PARTS}
    again = MovingDigits("train", 20, 6, 16, seed=3)
    whole = clips["train"].frames(13, np.arange(6))
    np.testing.assert_array_equal(again.frames(13, np.array([4, 1])), whole[[4, 1]])
    others = [
        clips["valid"].frames(13, np.arange(6)),
        MovingDigits("train", 20, 6, 16, seed=4).frames(13, np.arange(6)),
    ]
    assert all((other != whole).any() for other in others)
    assert clips["train"].labels().tolist() == [i % 8 for i in range(20)]
    assert sum(len(moving_digits.digits_of(part)[0]) for part in moving_digits.PARTS) == 1797
