"""Published weights by name."""

import hashlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from research.data.download import File
from research.interop import published, weights
from research.interop.hf import paths
from research.models.vision.efficientnet import EfficientNetLite
from research.util.errors import UserError

NAME = "efficientnet_lite0"


def shapes(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32))
    return {paths.path_name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(variables)}


@pytest.mark.data
def test_every_array_has_its_place():
    arrays = weights.read(NAME, EfficientNetLite(1000)).arrays
    assert {path: x.shape for path, x in arrays.items()} == shapes(EfficientNetLite(1000))
    assert all(np.isfinite(x).all() for x in arrays.values())
    assert min(x.min() for path, x in arrays.items() if path.endswith("var")) >= 0


@pytest.mark.data
@pytest.mark.parity
def test_logits_are_those_of_torch():
    """The file's own names, evaluated with nothing but torch's functions and TensorFlow's padding."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    t = {
        name: torch.from_numpy(x)
        for name, x in safetensors.numpy.load_file(published.file(NAME)).items()
        if x.dtype == np.float32
    }

    def norm(x, name):
        leaves = (t[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *leaves, eps=1e-3)

    def conv(x, name, stride=1, groups=1):
        kernel = t[f"{name}.weight"]
        pads = [
            max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(x.shape[2:], kernel.shape[2:], strict=True)
        ]
        x = F.pad(x, [part for n in reversed(pads) for part in (n // 2, n - n // 2)])
        return F.conv2d(x, kernel, stride=stride, groups=groups)

    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    x = np.random.default_rng(0).normal(size=(1, 96, 80, 3)).astype(np.float32)
    y = F.relu6(norm(conv(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), "_conv_stem", 2), "_bn0"))
    for i in range(16):
        name, z = f"_blocks.{i}", y
        if f"{name}._expand_conv.weight" in t:
            z = F.relu6(norm(conv(z, f"{name}._expand_conv"), f"{name}._bn0"))
        z = F.relu6(norm(conv(z, f"{name}._depthwise_conv", strides.get(i, 1), z.shape[1]), f"{name}._bn1"))
        z = norm(conv(z, f"{name}._project_conv"), f"{name}._bn2")
        y = y + z if y.shape == z.shape else z
    y = F.relu6(norm(conv(y, "_conv_head"), "_bn1")).mean((2, 3))
    expected = F.linear(y, t["_fc.weight"], t["_fc.bias"]).numpy()

    arrays = weights.read(NAME, EfficientNetLite(1000)).arrays
    variables = {"params": {}, "batch_stats": {}}
    for path, array in arrays.items():
        *parts, leaf = path.split("/")
        node = variables
        for part in parts:
            node = node.setdefault(part, {})
        node[leaf] = array
    logits = jax.jit(EfficientNetLite(1000).apply)(variables, x)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 1


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    monkeypatch.delenv("ALMANAC_MIRROR", raising=False)
    with pytest.raises(UserError, match="no copy of efficientnet_lite0.safetensors.*it has no address"):
        weights.read(NAME, EfficientNetLite(10))


def test_pretrained_weights_takes_the_name(monkeypatch, tmp_path):
    """A file with the right checksum, of two arrays of the network."""
    arrays = {"_fc.bias": np.arange(10, dtype=np.float32), "_conv_stem.weight": np.zeros((32, 3, 3, 3), np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "small.safetensors")
    raw = (tmp_path / "small.safetensors").read_bytes()
    small = File("small.safetensors", "", hashlib.sha256(raw).hexdigest(), len(raw))
    monkeypatch.setitem(published.WEIGHTS, NAME, published.Published(small, EfficientNetLite(10)))
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path))
    source = weights.read(NAME, EfficientNetLite(10))
    inner = weights.read(NAME, None, "backbone")  # a part of a model that is made within its call
    assert sorted(inner.arrays) == ["params/backbone/head/bias", "params/backbone/stem/kernel"]
    assert source.words == f"{NAME} (published)" and sorted(source.arrays) == ["params/head/bias", "params/stem/kernel"]
    assert "params/body/head/bias" in weights.read(NAME, EfficientNetLite(10), "body").arrays
