import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from research.core.mesh import path_name, shardings
from research.models.vision import resnet
from research.models.vision.resnet import ResNet
from research.util.errors import UserError


def abstract(model, size=32, channels=3):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, channels)))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("depth", "published"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_imagenet_parameter_counts(depth, published):
    assert count(abstract(ResNet(1000, depth), 224)["params"]) == published


def test_cifar_resnet20_has_the_papers_parameters():
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    head = 64 * 10 + 10
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    paper = convolutions + norms + head
    assert round(paper / 1e6, 2) == 0.27  # He et al. 2015, table 6
    assert count(abstract(ResNet(10, 20, "cifar", "pad"))["params"]) == paper
    assert count(abstract(ResNet(10, 20, "cifar"))["params"]) == paper + projections


@pytest.mark.parametrize(("depth", "millions"), [(32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_parameter_counts_of_table_6(depth, millions):
    parameters = count(abstract(ResNet(10, depth, "cifar", "pad"))["params"]) / 1e6
    assert parameters == pytest.approx(millions, abs=0.5 * 10 ** -len(str(millions)[2:]))


def test_a_backbone_gives_every_stage():
    model = ResNet(0, 50)
    variables = abstract(model, 64)
    assert "head" not in variables["params"]
    stages = jax.eval_shape(model.apply, variables, jnp.zeros((2, 64, 64, 3)))
    assert [s.shape for s in stages] == [
        (2, 16, 16, 256), (2, 8, 8, 512), (2, 4, 4, 1024), (2, 2, 2, 2048)
    ]  # fmt: skip


def test_a_zero_initialised_block_is_its_shortcut():
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    block = resnet.Block(5, stride=2, bottleneck=False, shortcut="pad", zero_init=True)
    y, _ = jax.jit(partial(block.init_with_output, train=False))(jax.random.key(0), x)
    np.testing.assert_array_equal(y[..., :3], jax.nn.relu(x)[:, ::2, ::2])
    assert not y[..., 3:].any()


def test_compute_follows_bfloat16_and_statistics_stay_float32():
    model = ResNet(10, 8, "cifar")
    low = jax.tree.map(lambda p: p.update(dtype=jnp.bfloat16), abstract(model)["params"])
    train = partial(model.apply, train=True, mutable=["batch_stats"])
    stats = abstract(model)["batch_stats"]
    x = jnp.zeros((2, 32, 32, 3), jnp.bfloat16)
    logits, state = jax.eval_shape(train, {"params": low, "batch_stats": stats}, x)
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("model", [ResNet(10, 20, "cifar"), ResNet(10, 18), ResNet(10, 50)])
@pytest.mark.parametrize("name", ["fsdp", "tensor"])
def test_sharding_rules_match_and_divide(model, name):
    mesh = AbstractMesh((2, 4), ("data", "model"))
    tree = shardings(abstract(model), resnet.SHARDING[name], mesh)  # a dead rule raises
    specs = {path_name(p): s.spec for p, s in jax.tree_util.tree_leaves_with_path(tree)}
    sizes = {path_name(p): a.size for p, a in jax.tree_util.tree_leaves_with_path(abstract(model))}
    split = sum(size for path, size in sizes.items() if any(specs[path]))
    assert split > 0.97 * sum(sizes.values())
    if name == "tensor":
        # Within a block every split of an output meets a split of the next input.
        block = "params/stage1_block0"
        assert specs[f"{block}/conv1/kernel"] == PartitionSpec(None, None, None, "model")
        assert specs[f"{block}/norm1/scale"] == PartitionSpec("model")
        assert specs[f"{block}/out/kernel"] == PartitionSpec(None, None, "model", None)
        assert specs[f"{block}/out_norm/scale"] == PartitionSpec()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ResNet(10, 19), "depth 19.*18, 34, 50, 101, 152"),
        (ResNet(10, 50, "cifar"), "depth 50.*20, 32, 44, 56, 110"),
        (ResNet(10, 20, "cifa"), "did you mean 'cifar'"),
        (ResNet(10, 20, "cifar", "zeros"), "pad, projection"),
    ],
)
def test_bad_values_are_named(model, words):
    with pytest.raises(UserError, match=words):
        abstract(model)


# Parity. Torch modules bear our names, so one function carries the weights over.


def from_torch(state_dict):
    """torch's state_dict, named `block.layer.leaf` as we do -> our variables."""
    names = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    variables = {"params": {}, "batch_stats": {}}
    for path, tensor in state_dict.items():
        *modules, leaf = path.split(".")
        if leaf == "num_batches_tracked":
            continue
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[tensor.ndim]
        node = variables["batch_stats" if leaf.startswith("running") else "params"]
        for module in modules:
            node = node.setdefault(module, {})
        leaf = names.get(leaf, "scale" if tensor.ndim == 1 else "kernel")
        node[leaf] = tensor.detach().numpy().transpose(order).copy()
    return variables


def scramble(torch, module):
    """Random norms: fresh ones are the identity and would hide mistakes."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (layer.bias, layer.running_mean):
                torch.nn.init.normal_(tensor, 0, 0.2)
    return module


def torch_cifar(torch, depth, shortcut):
    nn, relu = torch.nn, torch.nn.functional.relu

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.stride, self.grow = stride, outputs - inputs
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.out = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.out_norm = nn.BatchNorm2d(outputs)
            if self.grow and shortcut == "projection":
                self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut_norm = nn.BatchNorm2d(outputs)

        def forward(self, x):
            y = self.out_norm(self.out(relu(self.norm1(self.conv1(x)))))
            if self.grow and shortcut == "projection":
                x = self.shortcut_norm(self.shortcut(x))
            elif self.grow:
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.grow))
            return relu(x + y)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.stem_norm = nn.BatchNorm2d(16)
            width = 16
            for i in range(3):
                for j in range((depth - 2) // 6):
                    block = Block(width, 16 * 2**i, 2 if i and not j else 1)
                    self.add_module(f"stage{i}_block{j}", block)
                    width = 16 * 2**i
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            x = relu(self.stem_norm(self.stem(x)))
            for name, module in self.named_children():
                x = module(x) if name.startswith("stage") else x
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    return scramble(torch, Net())


@pytest.mark.parity
@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_cifar_equals_torch(shortcut):
    torch = pytest.importorskip("torch")
    depth = 8 if shortcut == "pad" else 20
    net = torch_cifar(torch, depth, shortcut)
    model = ResNet(10, depth, "cifar", shortcut)
    variables = from_torch(net.state_dict())
    batch, size = 4, 16
    x = np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)
    torch_x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())

    with torch.no_grad():
        expected = net.eval()(torch_x).numpy()
    logits = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())

    def loss(params):
        stats = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, state = model.apply(stats, x, train=True, mutable=["batch_stats"])
        return jnp.square(logits).mean(), (logits, state["batch_stats"])

    grads, (logits, state) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    expected = net.train()(torch_x)
    expected.square().mean().backward()
    expected = expected.detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    expected = from_torch({name: p.grad for name, p in net.named_parameters()})["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max()), grads, expected)

    after = from_torch(net.state_dict())["batch_stats"]
    for path, new in jax.tree_util.tree_leaves_with_path(state):
        name = path_name(path)
        old, torch_new = variables["batch_stats"], after
        for part in name.split("/"):
            old, torch_new = old[part], torch_new[part]
        if name.endswith("var"):  # torch keeps n/(n-1) times the batch's variance; we keep it bare
            stage = int(re.search(r"stage(\d)|$", name).group(1) or 0)
            n = batch * (size >> stage) ** 2
            torch_new = 0.9 * old + (torch_new - 0.9 * old) * (n - 1) / n
        np.testing.assert_allclose(new, torch_new, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
def test_imagenet_equals_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(num_labels=10)  # the default is ResNet-50
    net = scramble(torch, transformers.ResNetForImageClassification(config)).eval()

    def ours(name):
        name = name.replace("resnet.embedder.embedder", "stem").replace("classifier.1", "head")
        name = re.sub(r".*stages\.(\d)\.layers\.(\d+)\.", r"stage\1_block\2.", name)
        name = re.sub(r"layer\.2\.conv\w+", "out", name)
        name = re.sub(r"layer\.2\.norm\w+", "out_norm", name)
        name = re.sub(r"layer\.(\d)\.(conv|norm)\w+", lambda m: m[2] + str(int(m[1]) + 1), name)
        return name.replace(".convolution", "").replace(".normalization", "_norm")

    variables = from_torch({ours(name): tensor for name, tensor in net.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).logits.numpy()
    logits = jax.jit(ResNet(10, 50).apply)(variables, x)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
