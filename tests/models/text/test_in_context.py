import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.text.in_context import Regressor
from research.util.errors import UserError

RNG = np.random.default_rng(0)
X, Y = np.float32(RNG.normal(size=(2, 6, 3))), np.float32(RNG.normal(size=(2, 6)))
SMALL = {"max_points": 8, "num_layers": 2, "num_heads": 2, "width": 16}


def make(**changes):
    """A model, and parameters far from their initial values."""
    model = Regressor(**SMALL | changes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), X, Y)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.float32(0.3 * rng.normal(size=a.shape)), shapes)


def test_parameter_count():
    """Garg et al.: 12 layers of width 256 and 8 heads, biases and all; the position table is of 2 n rows."""
    model = Regressor(max_points=41, num_layers=12, num_heads=8, width=256)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 41, 20)), jnp.zeros((1, 41)))
    D = 256
    block = (3 * D * D + 3 * D) + (D * D + D) + (8 * D * D + 5 * D) + 4 * D
    want = 12 * block + (20 * D + D) + 82 * D + 2 * D + (D + 1)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == want


def test_a_prediction_sees_the_pairs_before_and_its_own_x():
    model, variables = make()
    apply = jax.jit(lambda x, y: model.apply(variables, x, y))
    base = np.asarray(apply(X, Y))
    assert base.shape == (2, 6) and base.dtype == np.float32
    for array, at in (("x", 3), ("y", 3)):
        x, y = X.copy(), Y.copy()
        (x if array == "x" else y)[:, at] += 1
        changed = np.abs(np.asarray(apply(x, y)) - base).max(0) > 1e-5
        first = at if array == "x" else at + 1  # y_3 is what the prediction at x_3 must not see
        assert changed.tolist() == [i >= first for i in range(6)]


@pytest.mark.parity
def test_equals_transformers_gpt2():
    torch, hf = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, variables = make()
    p = variables["params"]
    network = hf.GPT2Model(hf.GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=16, vocab_size=1)).eval()
    state = {"wpe.weight": p["position"]["embedding"]}
    for name, norm in [("ln_f", p["final_norm"])] + [
        (f"h.{i}.{theirs}", p[f"h_{i}"][ours])
        for i in range(2)
        for theirs, ours in (("ln_1", "attention_norm"), ("ln_2", "feed_forward_norm"))
    ]:
        state |= {f"{name}.weight": norm["scale"], f"{name}.bias": norm["bias"]}
    for i in range(2):
        h = p[f"h_{i}"]
        qkv = {k: np.moveaxis(v.reshape(*v.shape[:-1], 2, 3, 8), -2, -3) for k, v in h["attention"]["qkv"].items()}
        qkv = {k: v.reshape(*v.shape[:-3], 48) for k, v in qkv.items()}
        for theirs, dense in (
            ("attn.c_attn", qkv), ("attn.c_proj", h["attention"]["out"]),
            ("mlp.c_fc", h["feed_forward"]["up"]), ("mlp.c_proj", h["feed_forward"]["down"]),
        ):  # fmt: skip
            state |= {f"h.{i}.{theirs}.weight": dense["kernel"], f"h.{i}.{theirs}.bias": dense["bias"]}
    missing, unexpected = network.load_state_dict(
        {k: torch.tensor(np.asarray(v)) for k, v in state.items()}, strict=False
    )
    assert missing == ["wte.weight"] and unexpected == []
    pairs = np.stack([X, np.pad(Y[..., None], ((0, 0), (0, 0), (0, 2)))], 2).reshape(2, 12, 3)
    read = pairs @ p["read_in"]["kernel"] + p["read_in"]["bias"]
    with torch.no_grad():
        hidden = network(inputs_embeds=torch.tensor(np.asarray(read))).last_hidden_state.numpy()
    want = (hidden @ p["read_out"]["kernel"] + p["read_out"]["bias"])[:, ::2, 0]
    np.testing.assert_allclose(model.apply(variables, jnp.asarray(X), jnp.asarray(Y)), want, atol=1e-4)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_layers": 0}, "model.num_layers=0"),
        ({"width": 15}, "model.width=15 does not divide by model.num_heads=2"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
    ],
)
def test_bad_attributes(changes, words):
    with pytest.raises(UserError, match=words):
        Regressor(**SMALL | changes)
