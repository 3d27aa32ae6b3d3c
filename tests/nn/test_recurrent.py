from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import expit

from research.nn.recurrent import GRU, LSTM, Bidirectional, drop_sequence, drop_types

CELLS = {"LSTM": LSTM, "GRU": GRU}
B, T, D, H = 3, 5, 4, 6
LENGTHS = jnp.array([5, 2, 4])
X = jnp.float32(np.random.default_rng(0).normal(size=(B, T, D)))


def make(layer, *inputs):
    """Parameters far from their initial values, biases too: every weight N(0, 0.5^2)."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda a: jnp.float32(0.5 * rng.normal(size=a.shape)), shapes)


def by_hand(name, params, x):
    """One row f64[T, D] -> outputs [T, H], final h, final c, one step at a time."""
    p = jax.tree.map(np.float64, params)
    h, c, outputs = np.zeros(H), np.zeros(H), []
    for row in x:
        a = row @ p["input"]["kernel"] + p["input"]["bias"]
        b = h @ p["recurrent_kernel"]
        if name == "LSTM":
            i, f, g, o = np.split(a + b, 4)
            c = expit(f) * c + expit(i) * np.tanh(g)
            h = expit(o) * np.tanh(c)
        else:
            r, z = expit(a[: 2 * H] + b[: 2 * H]).reshape(2, H)
            n = np.tanh(a[2 * H :] + r * (b[2 * H :] + p["recurrent_bias"]))
            h = (1 - z) * n + z * h
        outputs.append(h)
    return np.array(outputs), h, c


@pytest.mark.parametrize("name", CELLS)
def test_equals_the_equations_for_each_rows_own_length(name):
    layer = CELLS[name](H)
    variables = make(layer, X)
    for reverse in (False, True):
        got, carry = layer.apply(variables, X, lengths=LENGTHS, reverse=reverse)
        for b, length in enumerate(LENGTHS):
            row = np.float64(X[b, :length])
            want, h, c = by_hand(name, variables["params"], row[::-1] if reverse else row)
            np.testing.assert_allclose(got[b, :length], want[::-1] if reverse else want, atol=1e-6)
            assert not np.asarray(got[b, length:]).any()
            np.testing.assert_allclose(carry["h"][b], h, atol=1e-6)
            if name == "LSTM":
                np.testing.assert_allclose(carry["c"][b], c, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_a_carried_state_goes_on_where_it_was(name):
    layer = CELLS[name](H)
    variables = make(layer, X)
    whole, end = layer.apply(variables, X)
    first, carry = layer.apply(variables, X[:, :2])
    second, carry = layer.apply(variables, X[:, 2:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-6)
    for part in end:
        np.testing.assert_allclose(carry[part], end[part], atol=1e-6)


def test_a_row_without_a_token_keeps_its_state():
    layer = Bidirectional(partial(LSTM, H))
    variables = make(layer, X)
    start = tuple({part: jnp.full((B, H), 0.25) for part in "ch"} for _ in range(2))
    got, carries = layer.apply(variables, X, start, jnp.array([0, 1, 0]))
    assert not np.asarray(got)[[0, 2]].any()
    for carry in carries:
        assert (np.asarray(carry["c"])[[0, 2]] == 0.25).all()
        assert (np.asarray(carry["c"])[1] != 0.25).all()


def test_what_lies_beyond_a_rows_length_changes_nothing():
    layer = Bidirectional(partial(GRU, H))
    variables = make(layer, X)
    other = np.where(np.arange(T)[:, None] < LENGTHS[:, None, None], X, 1e3).astype(np.float32)
    run = jax.jit(lambda x: layer.apply(variables, x, lengths=LENGTHS))
    jax.tree.map(np.testing.assert_array_equal, run(X), run(other))


def test_forget_bias():
    params = LSTM(H, forget_bias=1.5).init(jax.random.key(0), X)["params"]
    want = np.repeat([0, 1.5, 0, 0], H)
    np.testing.assert_array_equal(params["input"]["bias"], want)
    drawn = LSTM(H, bias_init=uniform(0.1), forget_bias=1.5).init(jax.random.key(0), X)["params"]
    assert np.abs(drawn["input"]["bias"] - want).max() <= 0.1
    assert np.abs(drawn["input"]["bias"] - want).min() > 0


def uniform(r):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -r, r)


def test_one_mask_a_sequence_on_inputs():
    kept = drop_sequence(0.5, train=True).apply({}, jnp.ones((8, T, 32)), rngs={"dropout": jax.random.key(0)})
    kept = np.asarray(kept)
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert (kept == kept[:, :1]).all()  # one mask for all of a row's time
    assert (kept[0] != kept[1]).any()
    assert 0.4 < (kept > 0).mean() < 0.6


@pytest.mark.parametrize("name", CELLS)
def test_one_mask_a_sequence_on_the_state(name):
    """Of the 2^H masks, held over time, exactly one explains a row's outputs."""
    layer = CELLS[name](H, recurrent_dropout=0.5)
    variables = make(layer, X)
    got, _ = layer.apply(variables, X, train=True, rngs={"dropout": jax.random.key(3)})
    p = jax.tree.map(np.float64, variables["params"])
    explained = []
    for b in range(B):
        found = []
        for bits in range(2**H):
            mask = 2.0 * ((bits >> np.arange(H)) & 1)
            masked = {**p, "recurrent_kernel": mask[:, None] * p["recurrent_kernel"]}
            want, *_ = by_hand(name, masked, np.float64(X[b]))
            if np.abs(want - got[b]).max() < 1e-5:
                found.append(bits)
        assert len(found) == 1
        explained += found
    assert len(set(explained)) > 1  # another row, another mask
    plain, _ = layer.apply(variables, X)
    np.testing.assert_allclose(plain[0], by_hand(name, p, np.float64(X[0]))[0], atol=1e-6)


def test_word_types_are_dropped_whole():
    tokens = np.array([[3, 1, 3, 2, 1, 3, 0, 2], [3, 3, 3, 1, 1, 0, 2, 2]])
    x = jnp.ones((2, 8, 4))
    seen, equal = set(), True
    for seed in range(40):
        kept = np.asarray(drop_types(x, jnp.asarray(tokens), 0.25, jax.random.key(seed)))
        assert set(np.unique(kept)) <= {0.0, np.float32(1 / 0.75)}
        assert (kept == kept[..., :1]).all()  # a whole vector or none of it
        kept = kept[..., 0]
        for row, words in zip(kept, tokens, strict=True):
            for word in range(4):
                assert len(set(row[words == word])) == 1
        seen |= {(r, word, kept[r, tokens[r] == word][0] > 0) for r in range(2) for word in range(4)}
        equal &= (kept[0, tokens[0] == 3][0] > 0) == (kept[1, tokens[1] == 3][0] > 0)
    assert len(seen) == 2 * 4 * 2 and not equal  # every word both ways, and rows apart


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_the_slopes_under_masks_lengths_and_in_reverse(name):
    layer = CELLS[name](H, recurrent_dropout=0.5)
    variables = jax.tree.map(jnp.asarray, make(layer, X))

    def run(variables, x, carry):
        rngs = {"dropout": jax.random.key(0)}
        return layer.apply(variables, x, carry, LENGTHS, reverse=True, train=True, rngs=rngs)

    carry = jax.tree.map(lambda a: a + 0.3, layer.initial_carry(B))
    check_grads(jax.jit(run), (variables, jnp.asarray(X), carry), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_dropout_is_off_when_not_training():
    layer = LSTM(H, dropout=0.5, recurrent_dropout=0.5)
    variables = make(layer, X)
    np.testing.assert_array_equal(layer.apply(variables, X)[0], LSTM(H).apply(variables, X)[0])


def test_the_state_is_f32_under_bf16():
    layer = LSTM(H)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), make(layer, X))
    outputs, carry = layer.apply(half, X.astype(jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16
    assert carry["c"].dtype == carry["h"].dtype == jnp.float32
    assert not np.array_equal(carry["c"], carry["c"].astype(jnp.bfloat16))


def from_torch(weights, suffix=""):
    """torch's parameters of one direction -> ours. Its LSTM has two biases a gate, of which the sum counts."""
    w = {n: weights[f"{n}_l0{suffix}"].numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    bias, own = w["bias_ih"] + w["bias_hh"], {}
    if len(bias) == 3 * H:  # a GRU's n keeps the second apart
        bias[2 * H :] = w["bias_ih"][2 * H :]
        own = {"recurrent_bias": w["bias_hh"][2 * H :]}
    return {"input": {"kernel": w["weight_ih"].T, "bias": bias}, "recurrent_kernel": w["weight_hh"].T, **own}


@pytest.mark.parity
@pytest.mark.parametrize("name", CELLS)
def test_equals_torch_with_its_gradients(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = getattr(torch.nn, name)(D, H, batch_first=True, bidirectional=True)
    weights = {n: p.detach() for n, p in network.named_parameters()}
    params = {"forward": from_torch(weights), "backward": from_torch(weights, "_reverse")}
    layer = Bidirectional(partial(CELLS[name], H))
    direction = np.float32(np.random.default_rng(2).normal(size=(B, T, 2 * H)))

    def loss(params, x):
        outputs, carries = layer.apply({"params": params}, x, lengths=LENGTHS)
        return jnp.sum(outputs * direction), (outputs, carries)

    (_, (got, carries)), (grads, dx) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, X)

    x = torch.tensor(np.asarray(X), requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, np.asarray(LENGTHS), batch_first=True, enforce_sorted=False)
    outputs, last = network(packed)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    (outputs * torch.tensor(direction)).sum().backward()
    np.testing.assert_allclose(got, outputs.detach().numpy(), atol=1e-6)
    last = dict(zip("hc", last, strict=True)) if name == "LSTM" else {"h": last}
    for part, value in last.items():
        for ours, theirs in zip(carries, value, strict=True):
            np.testing.assert_allclose(ours[part], theirs.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(dx, x.grad.numpy(), atol=1e-5)
    for side, suffix in (("forward", ""), ("backward", "_reverse")):
        of = {n: p.grad for n, p in network.named_parameters()}
        np.testing.assert_allclose(grads[side]["input"]["kernel"], of[f"weight_ih_l0{suffix}"].T, atol=1e-5)
        np.testing.assert_allclose(grads[side]["input"]["bias"], of[f"bias_ih_l0{suffix}"], atol=1e-5)
        np.testing.assert_allclose(grads[side]["recurrent_kernel"], of[f"weight_hh_l0{suffix}"].T, atol=1e-5)
        if name == "GRU":
            np.testing.assert_allclose(grads[side]["recurrent_bias"], of[f"bias_hh_l0{suffix}"][2 * H :], atol=1e-5)
