import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from research.core.mesh import shardings
from research.models.vision import convnet
from research.models.vision.convnet import ConvNet
from research.models.vision.lenet import MLP, LeNet5
from research.util.errors import UserError

IMAGES = jnp.zeros((2, 28, 28, 1))
# Keras's mnist_transfer_cnn.py: 9 * 32 + 32, 9 * 32 * 32 + 32, 12 * 12 * 32 * 128 + 128, 128 * 5 + 5.
KERAS = ConvNet(
    5, channels=(32, 32), padding="VALID", first_pool=False, pool="max", hidden=128, conv_dropout=0.25, dropout=0.5
)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (ConvNet(10), 824_458),
        (ConvNet(10, kernel=5, hidden=512, pool="max"), 1_663_370),
        (KERAS, 600_165),
        (LeNet5(10), 61_706),
        (LeNet5(10, channels=(20, 50), hidden=(500,), pad=0), 431_080),
        (MLP(10), 266_610),
    ],
)
def test_parameter_counts(model, published):
    params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published


@pytest.mark.parity
@pytest.mark.parametrize(
    ("model", "first_pad", "second_pad", "pool"),
    [
        (KERAS, 0, 0, "max_pool2d"),
        (ConvNet(10), 1, 1, "avg_pool2d"),
        (ConvNet(10, kernel=5, hidden=512, pool="max"), 2, 2, "max_pool2d"),
        (LeNet5(10), 2, 0, "max_pool2d"),
        (LeNet5(10, channels=(20, 50), hidden=(500,), pad=0), 0, 0, "max_pool2d"),
    ],
)
def test_equals_torch(model, first_pad, second_pad, pool):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    rng = np.random.default_rng(0)
    x = rng.random((2, 28, 28, 1), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: 0.1 * rng.normal(size=p.shape).astype(np.float32), params)
    logits = jax.jit(model.apply)({"params": params}, x)

    def tensor(array, *order):
        return torch.from_numpy(array.transpose(order))

    y = tensor(x, 0, 3, 1, 2)
    for name, pad in (("conv1", first_pad), ("conv2", second_pad)):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        y = f.conv2d(y, tensor(kernel, 3, 2, 0, 1), tensor(bias, 0), padding=pad)
        y = f.relu(y)
        y = getattr(f, pool)(y, 2) if name == "conv2" or getattr(model, "first_pool", True) else y
    y = y.permute(0, 2, 3, 1).flatten(1)
    dense = params.get("mlp", params)
    for name in ("hidden", "hidden1", "hidden2", "head"):
        if name in dense:
            y = f.linear(y, tensor(dense[name]["kernel"], 1, 0), tensor(dense[name]["bias"], 0))
            y = y if name == "head" else f.relu(y)
    np.testing.assert_allclose(logits, y, atol=1e-5 * float(y.abs().max()))


def test_input_dropout_zeroes_its_share_and_is_off_in_evaluation():
    model = MLP(1, hidden=(), input_dropout=0.2)
    x, params = jnp.ones((1, 1000)), {"head": {"kernel": jnp.ones((1000, 1)), "bias": jnp.zeros(1)}}
    rngs = {"dropout": jax.random.key(1)}
    kept = 0.8 * float(model.apply({"params": params}, x, train=True, rngs=rngs)[0, 0])
    assert kept == pytest.approx(round(kept), abs=1e-2) and 740 < kept < 860
    assert model.apply({"params": params}, x)[0, 0] == 1000


def test_hidden_dropout_zeroes_its_share():
    model = MLP(1, hidden=(1000,), dropout=0.5)
    params = {
        "hidden1": {"kernel": jnp.zeros((4, 1000)), "bias": jnp.ones(1000)},
        "head": {"kernel": jnp.ones((1000, 1)), "bias": jnp.zeros(1)},
    }
    rngs = {"dropout": jax.random.key(1)}
    logits = model.apply({"params": params}, jnp.ones((1, 4)), train=True, rngs=rngs)
    kept = float(logits[0, 0]) / 2  # survivors are doubled
    assert kept == round(kept) and 420 < kept < 580


@pytest.mark.parametrize(("changes", "kept"), [({"conv_dropout": 0.25}, 0.75), ({"dropout": 0.5}, 0.5)])
def test_a_convnet_drops_its_share(changes, kept):
    """One pixel of 1 through layers of ones: the logit counts the survivors, scaled, and is whole in evaluation."""
    model = ConvNet(1, channels=(1, 1000), kernel=1, hidden=1000, pool="max", first_pool=False, **changes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 2, 2, 1)))["params"]
    params = jax.tree.map(lambda p: jnp.ones(p.shape) if p.ndim > 1 else jnp.zeros(p.shape), shapes)
    params["hidden"]["kernel"] = jnp.eye(1000)
    x, rngs = jnp.ones((1, 2, 2, 1)), {"dropout": jax.random.key(1)}
    survivors = kept * float(model.apply({"params": params}, x, train=True, rngs=rngs)[0, 0])
    assert survivors == pytest.approx(round(survivors), abs=1e-2)
    assert abs(survivors - 1000 * kept) < 5 * (1000 * kept * (1 - kept)) ** 0.5
    assert model.apply({"params": params}, x)[0, 0] == 1000


def test_sharding_rules_match_and_divide():
    variables = jax.eval_shape(ConvNet(10).init, jax.random.key(0), IMAGES)
    mesh = AbstractMesh((2, 4), ("data", "model"))
    tensor = shardings(variables, convnet.SHARDING["tensor"], mesh)["params"]
    assert tensor["conv1"]["kernel"].spec == PartitionSpec(None, None, None, "model")
    assert tensor["conv2"]["kernel"].spec == PartitionSpec(None, None, "model", None)
    assert tensor["hidden"]["kernel"].spec == PartitionSpec(None, "model")
    assert tensor["head"]["kernel"].spec == PartitionSpec("model", None)
    fsdp = shardings(variables, convnet.SHARDING["fsdp"], mesh)["params"]
    assert fsdp["hidden"]["kernel"].spec == PartitionSpec("data", None)


@pytest.mark.parametrize(
    ("changes", "words"), [({"pool": "sum"}, "pool 'sum'.*avg, max"), ({"padding": "FULL"}, "'FULL'.*SAME, VALID")]
)
def test_an_unknown_word_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        ConvNet(10, **changes).init(jax.random.key(0), IMAGES)
