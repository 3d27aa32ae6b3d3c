"""Positions of patches: by hand, and as torch interpolates."""

import numpy as np
import pytest

from research.interop import positions


def drawn(rows, columns, first=1):
    return np.random.default_rng(0).normal(size=(first + rows * columns, 5)).astype(np.float32)


def test_the_class_tokens_is_left_alone_and_a_constant_stays():
    table = np.concatenate([[[7.0, 8.0]], np.tile([[1.0, 2.0]], (6, 1))]).astype(np.float32)
    moved = positions.resampled(table, (2, 3), (4, 5))
    assert moved.shape == (21, 2) and moved[0].tolist() == [7, 8]
    np.testing.assert_allclose(moved[1:], np.tile([[1.0, 2.0]], (20, 1)), rtol=1e-6)


def test_rows_and_columns_are_not_mixed_up():
    """What grows from row to row grows so in the other size, too, and is the same in all columns."""
    table = np.repeat(np.arange(4.0), 3)[:, None].astype(np.float32)
    moved = positions.resampled(table, (4, 3), (8, 2)).reshape(8, 2)
    assert (np.diff(moved, axis=0) > 0).all() and np.allclose(moved[:, 0], moved[:, 1])


def test_keys_cubic_by_hand():
    """Between two of four patches, at 1/4 and 3/4: Keys's weights (a = -1/2) at distances 5/4, 1/4, 3/4 and 7/4."""
    table = np.array([[0.0], [0.0], [1.0], [0.0]], np.float32)
    moved = positions.resampled(table, (1, 4), (1, 8))[:, 0]
    near = 1.5 * 0.25**3 - 2.5 * 0.25**2 + 1
    far = 1.5 * 0.75**3 - 2.5 * 0.75**2 + 1
    np.testing.assert_allclose(moved[3:5], [far, near], rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(("before", "after"), [((14, 14), (24, 24)), ((14, 14), (7, 10)), ((5, 8), (8, 5))])
def test_equals_torch(before, after):
    torch = pytest.importorskip("torch")
    table = drawn(*before)
    grid = torch.from_numpy(table[1:].reshape(1, *before, -1)).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(grid, size=after, mode="bicubic", antialias=True)
    theirs = theirs.permute(0, 2, 3, 1).reshape(after[0] * after[1], -1).numpy()
    np.testing.assert_allclose(positions.resampled(table, before, after)[1:], theirs, atol=2e-6)
