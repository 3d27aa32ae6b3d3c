"""TFDS data sets: ours from synthetic and real files, others as prepared; never TensorFlow."""

import gzip
import hashlib
import struct
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets as tfds

from research.data import download, tfds_records, thread_pool
from research.data.builders import fashion_mnist, idx, mnist, tiny_shakespeare
from research.data.images import labelled
from research.util.errors import UserError

SIZES = {"train": 7, "t10k": 3}


def pixels(prefix):
    seed = len(prefix)
    return np.random.default_rng(seed).integers(256, size=(SIZES[prefix], 28, 28)).astype(np.uint8)


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def put(folder, name, content):
    (folder / name).write_bytes(content)
    return download.File(name, f"http://127.0.0.1:9/{name}", hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Small idx files and a small text in the mirror, and their checksums in the builders."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path / "data"))
    files = []
    for prefix, size in SIZES.items():
        for kind, array in (
            ("images-idx3", pixels(prefix)),
            ("labels-idx1", np.arange(9, 9 - size, -1).astype(np.uint8)),
        ):
            content = gzip.compress(idx_bytes(array))
            files.append(put(tmp_path / "mirror", f"{prefix}-{kind}-ubyte.gz", content))
    for builder in (mnist.Mnist, fashion_mnist.FashionMnist):
        monkeypatch.setattr(builder, "FILES", tuple(files))
    play = put(tmp_path / "mirror", "input.txt", ("wörld " * 20).encode())
    monkeypatch.setattr(tiny_shakespeare.TinyShakespeare, "FILES", (play,))
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_builders_keep_pixels_labels_and_order(upstream, name):
    source = tfds_records.load(name, "train")
    assert len(source) == 7
    for i, image in enumerate(pixels("train")):
        np.testing.assert_array_equal(source[i]["image"], image[..., None])
        assert source[i]["label"] == 9 - i
    for _ in range(2):  # decoded, then from the .npy
        test = tfds_records.arrays(name, "test", ("image", "label"))
        np.testing.assert_array_equal(test["image"], pixels("t10k")[..., None])
        np.testing.assert_array_equal(test["label"], [9, 8, 7])
    by_tfds = tfds.builder_from_directory(str(upstream / "data" / "tfds" / name / "3.0.1"))
    assert by_tfds.as_data_source("train[:3]")[2]["label"] == 7


def test_tiny_shakespeare_is_split_without_loss(upstream):
    parts = [tfds_records.load("tiny_shakespeare", s)[0]["text"].decode() for s in ("train", "validation", "test")]
    assert "".join(parts) == "wörld " * 20
    assert [len(part) for part in parts] == [108, 6, 6]


def test_an_interrupted_preparation_is_done_again(upstream, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(idx, "read_idx", killed)
        with pytest.raises(KeyboardInterrupt):
            tfds_records.load("mnist", "train")
    assert not (upstream / "data" / "tfds" / "mnist" / "3.0.1").exists()
    assert len(tfds_records.load("mnist", "train")) == 7


def test_preparing_reports_a_damaged_and_a_missing_file(upstream, monkeypatch):
    path = upstream / "mirror" / "t10k-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz is damaged: expected") as caught:
        tfds_records.load("mnist", "train")
    assert "\n" not in str(caught.value)
    path.unlink()
    opened, urlopen = [], urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, **options: opened.append(url) or urlopen(url, **options))
    with pytest.raises(UserError, match="no copy of t10k-labels-idx1-ubyte.gz and") as caught:
        tfds_records.load("mnist", "train")
    assert len(opened) == 1  # and is not tried again
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"\0\0\x08\x01\0\0\0\x05abc", b"\0\0\x0d\x01\0\0\0\x01abcd"])
def test_idx_of_another_kind_or_length(tmp_path, raw):
    (tmp_path / "a.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(UserError, match="is not an idx file of bytes"):
        idx.read_idx(tmp_path / "a.gz")


class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures of two sizes with a class, as a user might have prepared them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["dark", "light"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(20)}

    def _generate_examples(self, size):
        from PIL import Image

        for i in range(size):
            colour = (200, 100, 0) if i % 2 else (20, 10, 0)
            yield i, {"picture": Image.new("RGB", (6 + i, 8), colour), "kind": i % 2}


@pytest.fixture
def toy(tmp_path):
    Toy(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    return tmp_path


def test_any_prepared_data_set_is_random_access(toy, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(toy))
    source = tfds_records.load("toy", "train[50%:]")
    rows = tfds_records.TfdsSource(source, lambda e: {"width": e["picture"].shape[1], "kind": e["kind"]})
    got = rows.gather(np.array([9, 0, 3]), 0)
    assert got["width"].tolist() == [25, 16, 19]
    assert got["kind"].tolist() == [1, 0, 1]
    assert len(rows) == 10


@pytest.mark.parametrize("limit", [0, 1 << 20])  # decoded when wanted, and at the start
def test_prepared_pictures_of_any_size(toy, monkeypatch, limit):
    monkeypatch.setattr(labelled, "IN_MEMORY", limit)
    data = labelled.load({"source": "tfds:toy", "data_dir": str(toy), "size": [4, 6]})
    assert data.shape == (4, 6, 3)
    assert (data.classes, data.test, len(data.train), len(data.valid)) == (
        ("dark", "light"),
        None,
        18,
        2,
    )
    got = data.train.gather(np.array([3, 2]), 0)
    np.testing.assert_allclose(got["image"][0], np.broadcast_to([200 / 255, 100 / 255, 0], (4, 6, 3)))
    assert got["image"].dtype == np.float32
    assert got["label"].tolist() == [1, 0]
    assert (data.train.labels().tolist(), data.valid.labels().tolist()) == ([0, 1] * 9, [0, 1])


@pytest.mark.parametrize("count", [1, 2, 8])
def test_prepared_pictures_from_any_number_of_threads(toy, monkeypatch, count):
    monkeypatch.setattr(labelled, "IN_MEMORY", 0)
    monkeypatch.setattr(thread_pool, "WORTHWHILE", 0.0)
    train = labelled.load({"source": "tfds:toy", "data_dir": str(toy), "size": [4, 6]}).train
    rows = np.random.default_rng(0).permutation(18)
    one_by_one = [train.gather(rows[i : i + 1]) for i in range(18)]
    with thread_pool.threads(count):
        got = train.gather(rows)
    for key, values in got.items():
        np.testing.assert_array_equal(values, np.concatenate([row[key] for row in one_by_one]))
    np.testing.assert_array_equal(got["label"], rows % 2)


@pytest.mark.parametrize(
    ("name", "split", "told"),
    [
        ("toys", "train", "no prepared TFDS data set 'toys' in "),
        ("not a name", "train", "no prepared TFDS data set 'not a name' in "),
        ("toy:2.0.0", "train", "no prepared TFDS data set"),
        ("toy", "valid", "toy has no split 'valid'; known: train"),
    ],
)
def test_mistakes_are_one_line(toy, name, split, told):
    with pytest.raises(UserError) as caught:
        tfds_records.load(name, split, str(toy))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_stored_for_tensorflow_is_told(toy):
    path = toy / "toy" / "1.0.0" / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="is stored as tfrecord"):
        tfds_records.load("toy", "train", str(toy))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "first", "counts"),
    [
        ("mnist", 5, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("fashion_mnist", 9, [6000] * 10),
    ],
)
def test_real_files_are_upstreams(name, first, counts):
    """Label counts as published by LeCun et al. and Xiao et al."""
    builder = {"mnist": mnist.Mnist, "fashion_mnist": fashion_mnist.FashionMnist}[name]
    paths = download.fetch(name, builder.FILES)
    read = {key.split("-ubyte")[0]: idx.read_idx(path) for key, path in paths.items()}
    assert read["train-labels-idx1"][0] == first
    assert np.bincount(read["train-labels-idx1"]).tolist() == counts
    assert read["train-images-idx3"].shape == (60_000, 28, 28)
    assert read["t10k-images-idx3"].shape == (10_000, 28, 28)
    assert len(read["t10k-labels-idx1"]) == 10_000


@pytest.mark.data
@pytest.mark.slow
def test_real_mnist_as_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = labelled.load({"source": "mnist"})
    assert [len(part) for part in (data.train, data.valid, data.test)] == [55_000, 5_000, 10_000]
    assert data.train.gather(np.array([0]), 0)["label"][0] == 5
    assert data.test.gather(np.arange(3), 0)["label"].tolist() == [7, 2, 1]
    whole = data.train.gather(np.arange(55_000), 0)["image"]
    held = data.valid.gather(np.arange(5_000), 0)["image"]
    mean = (whole.mean(dtype=np.float64) * 55 + held.mean(dtype=np.float64) * 5) / 60
    assert mean == pytest.approx(0.1307, abs=5e-5)  # the constant of PyTorch's MNIST example


def test_tensorflow_is_never_imported(upstream):
    code = """
import sys
from research.data.images import labelled
from research.data import tfds_records, tokenizers
from research.data.text import language_modelling
language_modelling.load_text({"source": "pydoc", "tokenizer": "char"})
labelled.load({"source": "digits"})
assert not [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "torch", "transformers")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    # In this process our builders have prepared and read; pytest and Transformers bring none.
    tfds_records.load("mnist", "test")[0]
    assert "tensorflow" not in sys.modules
