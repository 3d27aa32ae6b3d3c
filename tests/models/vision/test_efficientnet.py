import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.models.vision import efficientnet
from research.models.vision.efficientnet import EfficientNetLite
from research.util.errors import UserError
from tests.models.vision.test_resnet import from_torch, scramble


@pytest.mark.parametrize(
    ("variant", "millions"),  # google's README of efficientnet/lite
    [("lite0", 4.7), ("lite1", 5.4), ("lite2", 6.1), ("lite3", 8.2), ("lite4", 13.0)],
)
def test_parameter_counts(variant, millions):
    model = EfficientNetLite(1000, variant)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6, 1) == millions


def network(torch, stem):
    """The paper's table of torch's layers, padded as TensorFlow pads, its modules under our names."""
    nn, F = torch.nn, torch.nn.functional

    class Same(nn.Conv2d):
        def forward(self, x):
            (k, _), (s, _) = self.kernel_size, self.stride
            pads = [max((-(-n // s) - 1) * s + k - n, 0) for n in x.shape[2:]]
            sides = [part for n in reversed(pads) for part in (n // 2, n - n // 2)]
            return super().forward(F.pad(x, sides))

    class Block(nn.Module):
        def __init__(self, inputs, spec):
            super().__init__()
            kernel, stride, expansion, channels = spec
            width, norm = expansion * inputs, lambda n: nn.BatchNorm2d(n, eps=1e-3)
            self.residual = stride == 1 and inputs == channels
            if expansion > 1:
                self.expand, self.expand_norm = nn.Conv2d(inputs, width, 1, bias=False), norm(width)
            self.depthwise = Same(width, width, kernel, stride, groups=width, bias=False)
            self.depthwise_norm, self.out_norm = norm(width), norm(channels)
            self.out = nn.Conv2d(width, channels, 1, bias=False)

        def forward(self, x):
            y = F.relu6(self.expand_norm(self.expand(x))) if hasattr(self, "expand") else x
            y = self.out_norm(self.out(F.relu6(self.depthwise_norm(self.depthwise(y)))))
            return x + y if self.residual else y

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.stem_norm = Same(3, 32, 3, stem, bias=False), nn.BatchNorm2d(32, eps=1e-3)
            inputs = 32
            for i, spec in enumerate(efficientnet.specs("lite0")):
                self.add_module(f"block{i}", Block(inputs, spec))
                inputs = spec.channels
            self.top, self.top_norm = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
            self.head = nn.Linear(1280, 10)

        def forward(self, x):
            x = F.relu6(self.stem_norm(self.stem(x)))
            for i in range(16):
                x = getattr(self, f"block{i}")(x)
            return self.head(F.relu6(self.top_norm(self.top(x))).mean((2, 3)))

    torch.manual_seed(0)
    return scramble(torch, Net()).eval()


@pytest.mark.parity
@pytest.mark.parametrize(("rows", "columns", "stride"), [(32, 50, 2), (27, 28, 1)])
def test_equals_torch_with_tensorflows_padding(rows, columns, stride):
    torch = pytest.importorskip("torch")
    net = network(torch, stride)
    x = np.random.default_rng(0).normal(size=(2, rows, columns, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(EfficientNetLite(10, stride=stride).apply)(from_torch(net.state_dict()), x)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_blocks_of_the_paper():
    specs = efficientnet.specs("lite0")
    assert len(specs) == 16 and [s.channels for s in specs[:5]] == [16, 24, 24, 40, 40]
    assert np.prod([s.stride for s in specs]) == 16 and specs[-1] == (3, 1, 6, 320)
    assert len(efficientnet.specs("lite4")) == 1 + 4 + 4 + 6 + 6 + 8 + 1  # 1.8 times, rounded up, but for the ends


def test_bad_values_are_named():
    with pytest.raises(UserError, match="model.variant = 'lite9'"):
        efficientnet.specs("lite9")


@pytest.mark.parametrize("rules", efficientnet.SHARDING)
def test_sharding_rules_match_and_split_most(rules):
    tree = jax.eval_shape(EfficientNetLite(1000).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    found = shardings(tree, efficientnet.SHARDING[rules], AbstractMesh((2, 4), ("data", "model")))  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
