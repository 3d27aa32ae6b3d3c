import numpy as np
import pytest

from research.data.boxes import sources
from research.util.errors import UserError


def test_digits_need_nothing():
    data = sources.load({"source": "digits", "size": 32}, seed=0)
    assert list(data.parts) == ["train", "valid", "test"]
    assert data.shape == (32, 32, 1)


@pytest.mark.parametrize(
    ("cfg", "fault"),
    [
        ({"source": "vok"}, "no source of boxes 'vok'.*voc"),
        ({"source": "voc", "path": None}, "data.path is not set"),
        ({"source": "digits", "size": (32, 48)}, "is square"),
    ],
)
def test_bad_sources(cfg, fault):
    with pytest.raises(UserError, match=fault):
        sources.load(cfg, seed=0)


@pytest.mark.parametrize("cfg", [{"size": 0}, {"size": (32, 0)}, {"size": 32, "channels": 2}])
def test_bad_shapes(cfg):
    with pytest.raises(UserError, match="data.size"):
        sources.shape(cfg)


@pytest.mark.data
def test_blood_cells():
    """As counted in the archive: 4,888 boxes of 364 pictures, two of them of no area."""
    data = sources.load({"source": "bccd", "size": 64}, seed=0)
    assert {part: len(source) for part, source in data.parts.items()} == {"train": 205, "valid": 87, "test": 72}
    assert sum(len(source.truth(i).boxes) for source in data.parts.values() for i in range(len(source))) == 4_886
    assert data.parts["train"].gather(np.array([0]))["size"].tolist() == [[480, 640]]
