"""Which frames are seen, by hand."""

import numpy as np

from research.data.video import sampling


class Counting:
    """Clips whose frame t of clip i is 10 i + t."""

    shape = (1, 1, 1)

    def __init__(self, *lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def labels(self):
        return np.arange(len(self), dtype=np.int32)

    def length(self, index):
        return self.lengths[index]

    def frames(self, index, numbers):
        assert numbers.max() < self.lengths[index]
        return (10 * index + numbers).astype(np.uint8).reshape(-1, 1, 1, 1)


def shown(batch):
    return np.rint(255 * batch["clip"]).astype(int)[..., 0, 0, 0]


def test_views_are_spread_evenly():
    """Three windows of 3 frames, 2 apart, in 9 frames begin at 0, 2, 4; a clip of 4 frames repeats its last."""
    batch = sampling.Views(Counting(9, 4), frames=3, stride=2, views=3).gather(np.array([0, 1]), 0)
    assert shown(batch)[0].tolist() == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]
    assert shown(batch)[1].tolist() == [[10, 12, 13]] * 3
    assert batch["clip"].dtype == np.float32 and batch["label"].tolist() == [0, 1]


def test_one_view_is_the_middle():
    batch = sampling.Views(Counting(9), frames=3, stride=2, views=1).gather(np.array([0]), 0)
    assert shown(batch).tolist() == [[[2, 4, 6]]]


def test_a_random_window_is_a_function_of_seed_epoch_and_index_and_every_start_is_drawn():
    source = sampling.RandomWindows(Counting(*[9] * 20), frames=3, stride=2, seed=5)
    batch = shown(source.gather(np.arange(20), 2))
    starts = batch[:, 0] - 10 * np.arange(20)
    np.testing.assert_array_equal(np.diff(batch, axis=1), 2)
    assert set(starts) == {0, 1, 2, 3, 4}  # the last window that fits begins at 8 - 4
    np.testing.assert_array_equal(shown(source.gather(np.array([17, 3]), 2)), batch[[17, 3]])
    assert (shown(source.gather(np.arange(20), 3)) != batch).any()
    short = sampling.RandomWindows(Counting(2), frames=3, stride=2, seed=5)
    assert shown(short.gather(np.array([0]), 0)).tolist() == [[0, 1, 1]]
