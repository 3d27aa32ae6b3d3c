"""Files of torchvision and timm: names and shapes as theirs, values in their places, refusals, and equal logits."""

import hashlib
import importlib
import json
from functools import cache

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from research.core.mesh import path_name
from research.interop import huggingface, weights
from research.interop.hf import files
from research.interop.layouts import convnext, efficientnet, inception, reader, resnet, vit
from research.models.vision import googlenet, inception_v3
from research.models.vision.convnext import ConvNeXt
from research.models.vision.efficientnet import EfficientNetLite
from research.models.vision.googlenet import GoogLeNet
from research.models.vision.inception_v3 import InceptionV3
from research.models.vision.lenet import MLP
from research.models.vision.resnet import ResNet
from research.models.vision.vit import ViT
from research.util.errors import UserError

GOOGLENET = GoogLeNet(1000, large_kernel=3, last_pool=2)
VIT_B = ViT(1000, (224, 224, 3), 16, 768, 12, 12)
VIT_TI = ViT(1000, (224, 224, 3), 16, 192, 12, 3)
CONVNEXT = ConvNeXt(1000, (64, 64, 3))
# Of the state dicts of torchvision 0.29.1 and timm 1.0.31, without num_batches_tracked: how many tensors, and the first 16 digits
# of the SHA-256 of the sorted [name, shape] as JSON.
PUBLISHED = [
    (resnet.RESNET, ResNet(1000, 50), 64, 267, "3ee6c80130e2d8cf"),
    (inception.GOOGLENET, GOOGLENET, 64, 305, "918e52325cfd921a"),
    (inception.INCEPTION_V3, InceptionV3(1000), 299, 484, "053e0405869bd8f2"),
    (vit.TORCHVISION, VIT_B, 224, 152, "dd05153a680474e5"),
    (vit.TIMM, VIT_TI, 224, 152, "0cd6f04f236b89e8"),
    (convnext.TORCHVISION, CONVNEXT, 64, 182, "eeab576c3651cc29"),
    (convnext.TIMM, CONVNEXT, 64, 182, "3e2ba1aa2442faea"),
    (efficientnet.TIMM, EfficientNetLite(1000), 64, 247, "fe64542af1292711"),
]


@cache
def drawn(model, side):
    """Variables far from their initial values, by path; variances are positive."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
    rng = np.random.default_rng(1)
    leaves = {path_name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(shapes)}
    return {path: np.abs(rng.normal(size=shape)).astype(np.float32) for path, shape in leaves.items()}


def written(layout, model, arrays):
    """Our arrays as the library has them, by its names."""
    return {
        name: inverse(layout, model, name, arrays[place.ours])
        for name, place in layout.table(model).items()
        if place.ours in arrays and ".mlp.linear_" not in name
    }


def inverse(layout, model, name, x):
    if name in ("class_token", "cls_token", "pos_embed", "encoder.pos_embedding"):
        x = x[None]
    elif "in_proj" in name or ".attn.qkv." in name:  # ours: head by head, of each its query, key and value
        heads = np.moveaxis(x.reshape(*x.shape[:-1], model.num_heads, 3, -1), -2, 0)
        x = heads.reshape(3, *x.shape[:-1], -1)
        x = np.concatenate(list(x), -1).T
    elif name.endswith("layer_scale"):
        x = x[:, None, None]
    elif name in ("aux1.fc1.weight", "aux2.fc1.weight"):
        x = x.reshape(4, 4, 128, -1).transpose(3, 2, 0, 1).reshape(x.shape[1], -1)
    else:
        x = np.transpose(x, {4: (3, 2, 0, 1), 2: (1, 0)}.get(x.ndim))
    return np.ascontiguousarray(x)


@pytest.mark.parametrize(
    ("layout", "model", "side", "count", "digest"), PUBLISHED, ids=lambda x: getattr(x, "library", None)
)
def test_names_and_shapes_are_the_librarys(layout, model, side, count, digest):
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
    empty = {path_name(path): np.broadcast_to(0, x.shape) for path, x in jax.tree_util.tree_leaves_with_path(shapes)}
    facts = sorted((name, list(x.shape)) for name, x in written(layout, model, empty).items())
    assert len(facts) == count
    assert hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16] == digest


SMALL = {
    "resnet": (resnet.RESNET, ResNet(5, 18, width=4), 32),
    "bottlenecks": (resnet.RESNET, ResNet(5, 50, width=4), 32),
    "torchvision's vit": (vit.TORCHVISION, ViT(5, (8, 8, 3), 4, 8, 2, 2, representation=6), 8),
    "timm's vit": (vit.TIMM, ViT(5, (8, 8, 3), 4, 8, 2, 2), 8),
    "timm's vit, no token": (vit.TIMM, ViT(5, (8, 8, 3), 4, 8, 2, 2, pool="mean"), 8),
    "torchvision's convnext": (convnext.TORCHVISION, ConvNeXt(5, (16, 16, 3), (1, 2, 1, 1), (4, 5, 6, 7), 2), 16),
    "timm's convnext": (convnext.TIMM, ConvNeXt(5, (16, 16, 3), (1, 2, 1, 1), (4, 5, 6, 7), 2), 16),
}


def save(folder, name, change=None):
    """A file of one of SMALL, and its model and arrays."""
    layout, model, side = SMALL[name]
    arrays = drawn(model, side)
    tensors = written(layout, model, arrays) | {"bn1.num_batches_tracked": np.array(3)}
    if change:
        change(tensors)
    safetensors.numpy.save_file(tensors, folder / "theirs.safetensors")
    return folder / "theirs.safetensors", model, arrays


@pytest.mark.parametrize("name", SMALL)
def test_every_array_is_in_its_place(name, tmp_path):
    file, model, arrays = save(tmp_path, name)
    source = weights.read(str(file), model)
    assert source.arrays.keys() == arrays.keys()
    assert all(np.array_equal(source.arrays[path], x) for path, x in arrays.items())
    assert source.words == f"{file} ({type(model).__name__} of {SMALL[name][0].library})"
    again = weights.read(str(tmp_path), model, "body")  # the folder of that one file
    assert again.arrays.keys() == {path.replace("/", "/body/", 1) for path in arrays}


def test_the_published_names_of_torchvisions_vit(tmp_path):
    def older(tensors):
        for i, name in ((0, "linear_1"), (3, "linear_2")):
            for full in [full for full in tensors if f".mlp.{i}." in full]:
                tensors[full.replace(f".mlp.{i}.", f".mlp.{name}.")] = tensors.pop(full)

    file, model, arrays = save(tmp_path, "torchvision's vit", older)
    source = weights.read(str(file), model)
    assert all(np.array_equal(source.arrays[path], x) for path, x in arrays.items())


def fitted(source, arrays):
    fit = weights.Fitted(source, list(arrays), "", "")
    found = {path: fit.one(path, jax.numpy.zeros(x.shape)) for path, x in arrays.items()}
    return found, fit.report()


def test_what_is_missing_or_of_another_shape_is_named_as_there_and_here(tmp_path):
    file, model, arrays = save(tmp_path, "resnet", lambda tensors: tensors.pop("layer2.1.bn2.running_var"))
    with pytest.raises(UserError, match=r"stage1_block1/out_norm/var \[8\] is not there \(layer2.1.bn2.running_var\)"):
        fitted(weights.read(str(file), model), arrays)
    file, _, _ = save(tmp_path, "resnet")
    other = ResNet(7, 18, width=4)
    with pytest.raises(UserError, match=r"head/bias is \[5\] there \(fc.bias \[5\]\), \[7\] here"):
        fitted(weights.read(str(file), other), drawn(other, 32))


def of(name, change, message, module=None):
    return pytest.param(name, change, module, message, id=message[:30])


@pytest.mark.parametrize(
    ("name", "change", "module", "message"),
    [
        of("resnet", {}, "is a ResNet of torchvision or timm with depth = 18; model.depth here is 50", ResNet(5, 50)),
        of("resnet", {}, "with form = 'imagenet'; model.form here is 'cifar'", ResNet(5, 20, "cifar")),
        of("resnet", {}, "holds a ResNet of torchvision or timm; this experiment's model is a MLP", MLP(5)),
        of("resnet", {"layer1.0.se.fc1.weight": 1}, "has no place in our ResNet: squeeze-and-excitation"),
        of("resnet", {"layer1.0.odd": 1}, "layer1.0.odd has no place in our ResNet"),
        of("timm's vit", {"fc_norm.weight": 1}, "in our ViT: the norm is after the pooling, ours before it"),
        of("timm's vit", {}, "norm_eps = 1e-06; model.norm_eps here is 1e-12", ViT(5, (8, 8, 3), 4, 8, 2, 2, norm_eps=1e-12)),
        of("timm's vit", {}, "num_layers = 2; model.num_layers here is 3", ViT(5, (8, 8, 3), 4, 8, 3, 2)),
        of("timm's vit", {"patch_embed.proj.weight": 1}, "has names of a ViT of timm, and not its shapes"),
        of("timm's vit", {"pos_embed": ()}, "pos_embed is [], which params/position cannot be made of"),
        of("timm's convnext", {"stages.0.blocks.0.mlp.grn.weight": 1}, "global response normalisation (ConvNeXt V2)"),
    ],
)  # fmt: skip
def test_what_is_computed_otherwise_is_refused(name, change, module, message, tmp_path):
    more = {key: np.ones(value, np.float32) for key, value in change.items()}
    file, model, _ = save(tmp_path, name, lambda tensors: tensors.update(more))
    with pytest.raises(UserError) as e:
        reader.read(file, module or model)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_timms_config_names_what_the_tensors_do_not_show(tmp_path):
    file, model, _ = save(tmp_path, "resnet")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18.a1_in1k"}')
    assert weights.read(str(file), model)
    (tmp_path / "config.json").write_text('{"architecture": "resnetaa18"}')
    with pytest.raises(UserError, match="names 'resnetaa18', whose tensors have the names of a ResNet"):
        weights.read(str(file), model)


def test_heads_of_a_width_that_is_published():
    shapes = {"patch_embed.proj.weight": (768, 3, 16, 16), "cls_token": (1, 1, 768)}
    assert vit.TIMM.wanted(shapes)["num_heads"] == 12
    assert "num_heads" not in vit.TIMM.wanted({"patch_embed.proj.weight": (100, 3, 16, 16)})


def test_other_files(tmp_path):
    safetensors.numpy.save_file({"wte": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="has 'wte', ...: the names of no layout that is read"):
        weights.read(str(tmp_path / "other.safetensors"), MLP(5))
    (tmp_path / "resnet18.pth").write_bytes(b"")
    with pytest.raises(UserError, match="resnet18.pth, a pickle, .* convert it: python -c .*weights_only=True"):
        weights.read(str(tmp_path / "resnet18.pth"), MLP(5))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert reader.file(tmp_path) is None and files.is_folder(tmp_path)


@pytest.mark.parametrize("kind", ["timm", "transformers"])
def test_positions_for_pictures_of_another_size(kind, tmp_path):
    """2 x 2 patches there, 3 x 4 here; the report says so, and nothing else differs."""
    file, model, arrays = save(tmp_path, "timm's vit")
    if kind == "transformers":
        params = {path.removeprefix("params/"): x for path, x in arrays.items()}
        file = tmp_path / "folder"
        huggingface.write(file, model, jax.tree.map(np.asarray, unflatten_dict(params, sep="/")))
    larger = ViT(5, (12, 16, 3), 4, 8, 2, 2)
    shapes = {**arrays, "params/position": np.zeros((13, 8))}
    found, lines = fitted(weights.read(str(file), larger), shapes)
    assert lines[1:] == ["resized  position 2 x 2 -> 3 x 4 patches, bicubically"]
    assert np.array_equal(found["params/position"][0], arrays["params/position"][0])
    before, after = arrays["params/position"][1:], np.asarray(found["params/position"][1:])
    np.testing.assert_allclose(after.mean(0), before.mean(0), rtol=1e-5)  # the weights of the four are symmetric
    assert all(np.array_equal(found[path], x) for path, x in arrays.items() if path != "params/position")


# Against the libraries


def theirs(name, library):
    """A network of theirs with 5 classes, as small as they make it."""
    tiny = {"num_classes": 5, "img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    sizes = {"image_size": 8, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 32}
    no_token = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    if library.__name__ == "timm":
        name, options = {
            "vit": ("vit_tiny_patch16_224", tiny),
            "vit, no token": ("vit_tiny_patch16_224", tiny | no_token),
            "convnext": ("convnext_tiny", {"depths": (1, 2, 1, 1), "dims": (4, 5, 6, 7)}),
        }.get(name, (name, {}))
        return library.create_model(name, **{"num_classes": 5} | options)
    models = library.models
    if name == "vit":
        return models.VisionTransformer(**sizes, num_classes=5, representation_size=6)
    if name == "convnext":
        stage, widths = models.convnext.CNBlockConfig, (96, 8, 12, 16)
        blocks = [stage(D, out, n) for D, out, n in zip(widths, [*widths[1:], None], (1, 2, 1, 1), strict=True)]
        return models.ConvNeXt(blocks, num_classes=5)
    options = {"init_weights": False} if "ception" in name or name == "googlenet" else {}
    return getattr(models, name)(num_classes=5, **options)


THEIRS = [
    ("torchvision", "resnet18", ResNet(5, 18), 32),
    ("timm", "resnet50", ResNet(5, 50), 32),
    ("torchvision", "googlenet", GoogLeNet(5, large_kernel=3, last_pool=2), 40),
    ("torchvision", "inception_v3", InceptionV3(5, auxiliary=0.0), 75),
    ("torchvision", "vit", SMALL["torchvision's vit"][1], 8),
    ("timm", "vit", SMALL["timm's vit"][1], 8),
    ("timm", "vit, no token", SMALL["timm's vit, no token"][1], 8),
    ("torchvision", "convnext", ConvNeXt(5, (32, 32, 3), (1, 2, 1, 1), (96, 8, 12, 16)), 32),
    ("timm", "convnext", ConvNeXt(5, (32, 32, 3), (1, 2, 1, 1), (4, 5, 6, 7)), 32),
    ("timm", "tf_efficientnet_lite0", EfficientNetLite(5), 45),
]


def scrambled(torch, net):
    """Random values that keep the scale of what passes, in running statistics, too."""
    draw = torch.Generator().manual_seed(0)
    for name, x in net.state_dict().items():
        if name.endswith("running_var") or (x.ndim == 1 and name.endswith("weight")):
            x.uniform_(0.5, 1.5, generator=draw)
        elif x.is_floating_point():
            x.normal_(0, 0.3 if x.ndim < 2 or "pos_" in name else (2 / x[0].numel()) ** 0.5, generator=draw)
    return net.eval()


def imported(library):
    """The library, which no extra has: it must be of the same build as PyTorch."""
    try:
        return importlib.import_module(library)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{library} is not there, or of another build than PyTorch: {error}")


@pytest.mark.parity
@pytest.mark.parametrize(("library", "name", "model", "side"), THEIRS, ids=[" ".join(case[:2]) for case in THEIRS])
def test_logits_are_the_librarys(library, name, model, side, tmp_path):
    torch, library = pytest.importorskip("torch"), imported(library)
    net = scrambled(torch, theirs(name, library))
    tensors = {key: x.numpy() for key, x in net.state_dict().items()}
    safetensors.numpy.save_file(tensors, tmp_path / "theirs.safetensors")
    found, lines = fitted(weights.read(str(tmp_path / "theirs.safetensors"), model), drawn(model, side))
    assert [line for line in lines[1:] if "uxiliary" not in line] == []
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(model.apply)(unflatten_dict(found, sep="/"), x)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()  # pictures differ
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "model", "head", "places", "shape"),
    [
        ("googlenet", GOOGLENET, googlenet.AuxiliaryHead(1000, True), ("aux2", "auxiliary2"), (2, 5, 7, 528)),
        (
            "inception_v3",
            InceptionV3(1000),
            inception_v3.AuxiliaryHead(1000),
            ("AuxLogits", "auxiliary"),
            (2, 17, 18, 768),
        ),
    ],
)
def test_auxiliary_heads_are_the_librarys(name, model, head, places, shape, tmp_path):
    """Each alone, without dropout, on what it reads."""
    torch, torchvision = pytest.importorskip("torch"), imported("torchvision")
    net = scrambled(torch, getattr(torchvision.models, name)(init_weights=False))
    file = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file({key: x.numpy() for key, x in net.state_dict().items()}, file)
    theirs, ours = places
    arrays = weights.read(str(file), model).arrays
    part = {path.replace(f"/{ours}/", "/"): x for path, x in arrays.items() if f"/{ours}/" in path}
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with torch.no_grad():
        expected = getattr(net, theirs)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = head.apply(unflatten_dict(part, sep="/"), x, False)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
