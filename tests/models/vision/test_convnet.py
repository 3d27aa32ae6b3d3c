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


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (ConvNet(10), 824_458),
        (ConvNet(10, kernel=5, hidden=512, pool="max"), 1_663_370),
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
        y = getattr(f, pool)(f.relu(y), 2)
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


def test_an_unknown_pool_is_named():
    with pytest.raises(UserError, match="pool 'sum'.*avg, max"):
        ConvNet(10, pool="sum").init(jax.random.key(0), IMAGES)
