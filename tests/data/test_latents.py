"""Latents: what a generator learns from, and its inputs."""

import numpy as np
import pytest

from research.core.config import track_reads
from research.data import latents
from research.data.synthetic import mixtures
from research.util.errors import UserError


def load(**cfg):
    return latents.load(track_reads({"source": "grid", "num_examples": 50} | cfg), 3, batch_size=8, latent=2)


def test_points_of_the_grid():
    data = load()
    assert data.images is None and not data.evals and data.train.epoch == 50
    assert {name: shape.shape for name, shape in data.train.spec.items()} == {"x": (8, 2)}
    points = mixtures.mixture(mixtures.GRID_CENTRES, mixtures.GRID_STD, 50, 3)["x"]
    np.testing.assert_array_equal(data.train.source.arrays["x"], points)
    assert len(load(num_examples=None).train.source) == 100_000


def test_pictures():
    data = load(source="digits")
    assert data.images.shape == (8, 8, 1) and data.train.source is data.images.train
    assert {name: shape.shape for name, shape in data.train.spec.items()} == {"image": (8, 8, 8, 1), "label": (8,)}


def test_a_latent_vector_and_its_sample(tmp_path):
    data = load()
    assert data.codec.inputs == {"z": (("b", 2), "float32")}
    np.save(tmp_path / "z.npy", np.array([0.5, -1.0]))
    z = data.codec.encode(data.codec.read(tmp_path / "z.npy"))["z"]
    np.testing.assert_array_equal(z, np.array([[0.5, -1.0]], np.float32))
    assert data.codec.decode({"x": np.array([[1.23456, 2.0], [9.0, 9.0]])}) == {"x": [1.2346, 2.0]}
    with pytest.raises(UserError, match="3 numbers; the generator takes 2"):
        data.codec.encode([1, 2, 3])
    (tmp_path / "text.npy").write_text("no array")
    for name in ("text.npy", "absent.npy"):
        with pytest.raises(UserError, match=f"cannot read .*{name} as a .npy latent vector"):
            data.codec.read(tmp_path / name)
