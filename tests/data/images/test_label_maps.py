"""Label maps: there and back, colours that tell classes apart."""

import numpy as np

from research.data.images import label_maps


def test_runs_are_the_labels():
    labels = np.random.default_rng(0).integers(0, 3, (5, 7))
    runs = label_maps.to_runs(labels)
    assert sum(length for _, length in runs) == 35
    np.testing.assert_array_equal(label_maps.from_runs(runs, (5, 7)), labels)


def test_colours():
    got = label_maps.coloured(np.array([[0, 1, 2, 10, 255]]))
    assert got.shape == (1, 5, 3) and len({tuple(x) for x in got[0].tolist()}) == 5
    assert got[0, 0].tolist() == [0, 0, 0] and got[0, -1].tolist() == [255, 255, 255]
