import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.models.vision import googlenet
from research.models.vision.googlenet import MODULES, GoogLeNet
from research.util.errors import UserError
from tests.models.vision.test_resnet import from_torch, scramble


def count(model):
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({"large_kernel": 3, "auxiliary": 0.0}, 6_624_904),  # torchvision
        ({"large_kernel": 3}, 13_004_888),
        ({"batch_norm": False, "auxiliary": 0.0}, 6_998_552),  # Caffe's bvlc_googlenet
        ({"batch_norm": False}, 13_378_280),
    ],
)
def test_parameter_counts(changes, published):
    assert count(GoogLeNet(1000, **changes)) == published


def network(torch, large, auxiliary):
    """The paper's table 1 of torch's layers, its modules under our names."""
    nn, F = torch.nn, torch.nn.functional

    class Convolution(nn.Module):
        def __init__(self, inputs, outputs, kernel, stride=1):
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

        def forward(self, x):
            return F.relu(self.norm(self.conv(x)))

    class Inception(nn.Module):
        def __init__(self, inputs, one, three_reduce, three, five_reduce, five, pool):
            super().__init__()
            self.one, self.pool = Convolution(inputs, one, 1), Convolution(inputs, pool, 1)
            self.three_reduce, self.three = Convolution(inputs, three_reduce, 1), Convolution(three_reduce, three, 3)
            self.five_reduce, self.five = Convolution(inputs, five_reduce, 1), Convolution(five_reduce, five, large)

        def forward(self, x):
            pooled = F.max_pool2d(x, 3, 1, 1)
            both = self.three(self.three_reduce(x)), self.five(self.five_reduce(x))
            return torch.cat([self.one(x), *both, self.pool(pooled)], 1)

    class Head(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.conv, self.hidden, self.head = Convolution(inputs, 128, 1), nn.Linear(2048, 1024), nn.Linear(1024, 10)

        def forward(self, x):
            x = self.conv(F.adaptive_avg_pool2d(x, 4)).permute(0, 2, 3, 1)
            return self.head(F.relu(self.hidden(x.flatten(1))))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = Convolution(3, 64, 7, 2), Convolution(64, 64, 1)
            self.conv3, inputs = Convolution(64, 192, 3), 192
            for name, (one, a, three, b, five, pool) in MODULES.items():
                self.add_module(f"inception_{name}", Inception(inputs, one, a, three, b, five, pool))
                inputs = one + three + five + pool
            if auxiliary:
                self.auxiliary1, self.auxiliary2 = Head(512), Head(528)
            self.head = nn.Linear(1024, 10)

        def forward(self, x):
            pool, heads = (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)), []
            x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
            for name in MODULES:
                x = pool(x) if name in ("4a", "5a") else x
                x = getattr(self, f"inception_{name}")(x)
                if auxiliary and name in ("4a", "4d"):
                    heads.append(getattr(self, f"auxiliary{1 + len(heads)}")(x))
            return self.head(x.mean((2, 3))), heads

    torch.manual_seed(0)
    return scramble(torch, Net())


@pytest.mark.parity
def test_equals_torch():
    torch = pytest.importorskip("torch")
    net = network(torch, 5, auxiliary=True).eval()
    variables = from_torch(net.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 68, 76, 3)).astype(np.float32)  # sides that no pooling divides evenly
    with torch.no_grad():
        expected, heads = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    model = GoogLeNet(10, dropout=0.0)
    logits = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected.numpy()).max())
    # An auxiliary head alone, without its dropout, on what it reads.
    seen = np.random.default_rng(1).normal(size=(2, 5, 7, 512)).astype(np.float32)
    head = googlenet.AuxiliaryHead(10, batch_norm=True)
    theirs = net.auxiliary1(torch.from_numpy(seen.transpose(0, 3, 1, 2).copy())).detach().numpy()
    ours = head.apply({key: tree["auxiliary1"] for key, tree in variables.items()}, seen, False)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    assert len(heads) == 2


def test_auxiliary_heads_speak_in_training_alone():
    model, x = GoogLeNet(10, strides=(1, 2, 1, 2, 2)), jnp.zeros((2, 28, 28, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)

    def train(v):
        return model.apply(v, x, True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})

    (logits, heads), _ = jax.eval_shape(train, variables)
    assert [y.shape for y in (logits, *heads)] == [(2, 10)] * 3
    assert jax.eval_shape(model.apply, variables, x).shape == (2, 10)
    alone = GoogLeNet(10, auxiliary=0.0)
    assert not {"auxiliary1", "auxiliary2"} & jax.eval_shape(alone.init, jax.random.key(0), x)["params"].keys()


def test_adaptive_mean_by_hand():
    x = jnp.arange(5.0).reshape(1, 5, 1, 1) * jnp.ones((1, 5, 2, 1))
    # Windows of five rows in two: rows 0 to 2, and rows 2 to 4. Two columns in two: one each.
    assert googlenet.adaptive_mean(x, 2)[0, ..., 0].tolist() == [[1, 1], [3, 3]]
    assert googlenet.adaptive_mean(x[:, :1, :1], 4).shape == (1, 4, 4, 1)


def test_pooling_keeps_a_last_window_that_reaches_over_the_edge():
    x = jnp.arange(6.0).reshape(1, 1, 6, 1)
    assert googlenet.pool(x, 2)[0, 0, :, 0].tolist() == [2, 4, 5]
    assert googlenet.pool(x, 2, 2)[0, 0, :, 0].tolist() == [1, 3, 5]
    assert googlenet.pool(x, 1) is x


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strides": (2, 2)}, "model.strides"),
        ({"auxiliary": -1.0}, "at least 0"),
        ({"last_pool": 1}, "model.last_pool = 1: at least its stride, 2"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        count(GoogLeNet(10, **changes))


@pytest.mark.parametrize("rules", googlenet.SHARDING)
def test_sharding_rules_match_and_split_most(rules):
    tree = jax.eval_shape(GoogLeNet(1000).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    found = shardings(tree, googlenet.SHARDING[rules], AbstractMesh((2, 4), ("data", "model")))  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
