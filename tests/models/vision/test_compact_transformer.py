import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import AbstractMesh

from research.core.mesh import shardings
from research.interop.hf import mapping
from research.models.vision import compact_transformer
from research.models.vision.compact_transformer import CompactTransformer
from research.util.errors import UserError

SHAPE = (32, 32, 3)
SEVEN = dict(width=256, num_layers=7, num_heads=4, mlp_width=512)


@pytest.mark.parametrize(
    ("model", "millions"),  # README of the authors' repository
    [
        (CompactTransformer(10, SHAPE), 0.284),
        (CompactTransformer(10, SHAPE, num_layers=4), 0.482),
        (CompactTransformer(10, SHAPE, convolutions=1, **SEVEN), 3.760),
        (CompactTransformer(10, SHAPE, **SEVEN), 3.853),
        (CompactTransformer(10, SHAPE, patch=4, **SEVEN), 3.717),
        (CompactTransformer(10, SHAPE, patch=4, pool="token", **SEVEN), 3.717),
    ],
)
def test_parameter_counts(model, millions):
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    assert round(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, 3) == millions


def published(torch, model):
    """The network of the authors' code, of torch's layers, its modules under our names."""
    nn, F = torch.nn, torch.nn.functional
    D, H = model.width, model.num_heads

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.feed_forward_norm = nn.LayerNorm(D), nn.LayerNorm(D)
            self.attention = nn.ModuleDict({"qkv": nn.Linear(D, 3 * D, bias=False), "out": nn.Linear(D, D)})
            width = model.mlp_width
            self.feed_forward = nn.ModuleDict({"up": nn.Linear(D, width), "down": nn.Linear(width, D)})

        def forward(self, x):
            qkv = self.attention["qkv"](self.attention_norm(x))
            q, k, v = (y.unflatten(-1, (H, -1)).transpose(1, 2) for y in qkv.chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
            x = self.feed_forward_norm(x + self.attention["out"](y))
            return x + self.feed_forward["down"](F.gelu(self.feed_forward["up"](x)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            C = model.image_shape[2]
            if model.patch:
                self.patch = nn.Conv2d(C, D, model.patch, model.patch)
                tokens = (model.image_shape[0] // model.patch) ** 2
            else:
                widths = [C, *[model.filters] * (model.convolutions - 1), D]
                for i in range(model.convolutions):
                    self.add_module(f"conv{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3, 1, 1, bias=False))
                tokens = (model.image_shape[0] >> model.convolutions) ** 2
            if model.pool == "token":
                self.class_token = nn.Parameter(torch.zeros(1, D))
                tokens += 1
            else:
                self.pool = nn.Linear(D, 1)
            self.position = nn.Parameter(torch.zeros(tokens, D))
            for i in range(model.num_layers):
                self.add_module(f"h_{i}", Layer())
            self.final_norm, self.head = nn.LayerNorm(D), nn.Linear(D, model.num_classes)

        def forward(self, x):
            if model.patch:
                x = self.patch(x)
            else:
                for i in range(model.convolutions):
                    x = F.max_pool2d(F.relu(getattr(self, f"conv{i + 1}")(x)), 3, 2, 1)
            x = x.flatten(2).transpose(-2, -1)
            if model.pool == "token":
                x = torch.cat([self.class_token.expand(len(x), 1, D), x], 1)
            x = x + self.position
            for i in range(model.num_layers):
                x = getattr(self, f"h_{i}")(x)
            x = self.final_norm(x)
            if model.pool == "token":
                return self.head(x[:, 0])
            return self.head((F.softmax(self.pool(x), 1).transpose(-1, -2) @ x).squeeze(-2))

    return Network()


@pytest.mark.parity
@pytest.mark.parametrize("changes", [{}, {"convolutions": 1}, {"patch": 4}, {"patch": 4, "pool": "token"}])
def test_equals_the_authors_network(changes):
    torch = pytest.importorskip("torch")
    model = CompactTransformer(7, (16, 16, 3), width=32, num_heads=4, mlp_width=48, **changes)
    torch.manual_seed(0)
    net = published(torch, model).eval()
    params = {}
    for name, tensor in net.state_dict().items():
        tensor.normal_(0, 0.3)
        x, path = tensor.numpy(), name.replace(".", "/")
        x = x.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[x.ndim]) if path not in ("class_token", "position") else x
        if "qkv" in path:
            x = mapping.JOINED.read({"N": 4, "K": 8}, x)
        leaf = "/scale" if "norm" in path else "/kernel"
        params[path.replace("/weight", leaf)] = x
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(model.apply)({"params": traverse_util.unflatten_dict(params, sep="/")}, images)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_positions_may_be_fixed_or_absent():
    for positions in ("sinusoidal", "none"):
        model = CompactTransformer(10, SHAPE, positions=positions)
        params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
        assert "position" not in params


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch": 5}, "model.patch = 5: pictures of 32 x 32"),
        ({"pool": "mean"}, "model.pool = 'mean'"),
        ({"positions": "sinusoid"}, "did you mean 'sinusoidal'"),
        ({"kernel": 4}, "model.kernel = 4: at least one, and an odd number"),
        ({"num_heads": 3}, "no multiple"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        CompactTransformer(10, SHAPE, **changes)


@pytest.mark.parametrize("rules", compact_transformer.SHARDING)
def test_sharding_rules_match_and_split_most(rules):
    tree = jax.eval_shape(CompactTransformer(10, SHAPE, **SEVEN).init, jax.random.key(0), jnp.zeros((1, *SHAPE)))[
        "params"
    ]
    found = shardings(
        tree, compact_transformer.SHARDING[rules], AbstractMesh((2, 4), ("data", "model"))
    )  # a dead rule raises
    sizes = jax.tree.map(lambda leaf: leaf.size, tree)
    split = jax.tree.map(lambda leaf, size: size * any(leaf.spec), found, sizes)
    assert sum(jax.tree.leaves(split)) > 0.9 * sum(jax.tree.leaves(sizes))
