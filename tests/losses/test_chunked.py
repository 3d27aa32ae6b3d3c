"""The loss of logits that never exist whole, against float64 in numpy and against the plain form."""

import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from research.core.mesh import make_mesh
from research.losses import chunked, language
from research.nn.logits import DeferredLogits, logits_dot
from research.util.errors import UserError
from tests.losses.as_scalar import as_scalar

B, T, D, V = 3, 7, 5, 11
in_chunks, plainly = as_scalar(chunked.cross_entropy), as_scalar(language.cross_entropy)


def problem(batch=B, length=T, dtype=np.float32, axis=1, bias=True, mask="tokens", width=D, vocab=V):
    draw = np.random.default_rng(0)
    shape = (vocab, width) if axis else (width, vocab)
    hidden, matrix = draw.normal(size=(batch, length, width)), draw.normal(size=shape)
    logits = DeferredLogits(jnp.asarray(hidden, dtype), jnp.asarray(matrix, dtype), axis=axis)
    if bias:
        logits += jnp.asarray(draw.normal(size=vocab), dtype)
    targets = draw.integers(vocab, size=(batch, length))
    kept = {"tokens": draw.random((batch, length)) < 0.7, "rows": np.arange(batch) != 1, "none": None}[mask]
    return logits, jnp.asarray(targets), None if kept is None else jnp.asarray(kept, jnp.float32)


def exact(logits, targets, mask, smoothing):
    """Loss, metrics and gradients in float64, from the definition: cross-entropy with (1 - s) one-hot + s / V."""
    wide = [
        np.asarray(x, np.float64) for x in (logits.hidden, logits.matrix, 0 if logits.bias is None else logits.bias)
    ]
    hidden, table, bias = wide[0], wide[1] if logits.axis else wide[1].T, wide[2]
    z = hidden @ table.T + bias
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    targets = np.asarray(targets)
    hot = np.eye(len(table))[targets]
    weights = np.ones(targets.shape) if mask is None else np.asarray(mask, np.float64)
    weights = np.broadcast_to(weights.reshape(weights.shape + (1,) * (2 - weights.ndim)), targets.shape)
    soft = (1 - smoothing) * hot + smoothing / len(table)
    scalar = -(weights[..., None] * soft * np.log(p)).sum() / weights.sum()
    slope = (p - soft) * weights[..., None] / weights.sum()
    of_table = np.einsum("btv,btd->vd", slope, hidden)
    grads = [slope @ table, of_table if logits.axis else of_table.T]
    sums = {
        "loss": -(weights[..., None] * hot * np.log(p)).sum(),
        "accuracy": (weights * (z.argmax(-1) == targets)).sum(),
    }
    return scalar, {k: (v, weights.sum()) for k, v in sums.items()}, grads, slope.sum((0, 1))


def value_and_grad(loss, logits, targets, mask, smoothing, **how):
    @jax.jit
    def both(logits):
        return jax.value_and_grad(lambda x: loss(x, targets, mask, smoothing, **how), has_aux=True)(logits)

    return both(logits)


def worst(got, expected):
    """The largest difference, of the largest element."""
    return np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    (
        "mask",
        "smoothing",
        "axis",
        "bias",
        "size",
    ),  # size: tokens a chunk, of 21; the last chunks are empty or filled up
    [
        ("none", 0.0, 1, False, 8),
        ("none", 0.1, 0, True, 1),
        ("tokens", 0.0, 0, False, 1),
        ("tokens", 0.0, 1, True, 3),
        ("tokens", 0.1, 1, True, 8),
        ("rows", 0.1, 1, False, 3),
        ("rows", 0.0, 0, False, 21),
    ],
)
def test_equals_the_definition_in_float64(mask, smoothing, axis, bias, size):
    logits, targets, kept = problem(axis=axis, bias=bias, mask=mask)
    (scalar, metrics), grads = value_and_grad(in_chunks, logits, targets, kept, smoothing, chunk_bytes=4 * V * size)
    expected, sums, (of_hidden, of_matrix), of_bias = exact(logits, targets, kept, smoothing)
    assert float(scalar) == pytest.approx(expected, rel=1e-6)
    for name, pair in sums.items():
        assert [float(v) for v in metrics[name]] == pytest.approx(pair, rel=1e-6)
    assert worst(grads.hidden, of_hidden) < 1e-6
    assert worst(grads.matrix, of_matrix) < 1e-6
    assert (grads.bias is None) == (not bias)
    if bias:
        assert worst(grads.bias, of_bias) < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bfloat16_within_its_rounding(smoothing):
    """Sums over the vocabulary in f32; the gradients pass through bf16 (8 bits: 2^-8 a rounding) twice."""
    logits, targets, kept = problem(batch=8, length=33, dtype=jnp.bfloat16, width=32, vocab=101)
    (scalar, _), grads = value_and_grad(in_chunks, logits, targets, kept, smoothing, chunk_bytes=4 * 101 * 50)
    expected, _, (of_hidden, of_matrix), of_bias = exact(logits, targets, kept, smoothing)
    assert scalar.dtype == jnp.float32 and grads.matrix.dtype == grads.hidden.dtype == jnp.bfloat16
    assert float(scalar) == pytest.approx(expected, rel=1e-5)
    for got, want in ((grads.hidden, of_hidden), (grads.matrix, of_matrix), (grads.bias, of_bias)):
        assert worst(got, want) < 2 * 2**-8


def test_many_tokens_in_bfloat16_do_not_drown_in_their_sum():
    """4,096 equal tokens in 64 chunks: a sum of chunks kept in bf16 would stop growing at 2^8 of its steps."""
    logits = DeferredLogits(jnp.ones((1, 4096, 1), jnp.bfloat16), jnp.zeros((2, 1), jnp.bfloat16))
    targets = jnp.zeros((1, 4096), int)
    _, grads = value_and_grad(in_chunks, logits, targets, None, 0.0, chunk_bytes=8 * 64)
    assert np.asarray(grads.matrix, np.float32).ravel() == pytest.approx([-0.5, 0.5])


def test_everything_masked_is_zero():
    logits, targets, _ = problem()
    (scalar, _), grads = value_and_grad(in_chunks, logits, targets, jnp.zeros((B, T)), 0.1, chunk_bytes=4 * V)
    assert float(scalar) == 0 and not any(np.asarray(g).any() for g in jax.tree.leaves(grads))


def test_without_a_gradient_none_is_made():
    """Evaluation multiplies once: the jaxpr of the value has one product, that with the gradient three."""
    logits, targets, kept = problem()
    loss = lambda x: in_chunks(x, targets, kept, chunk_bytes=4 * V)[0]  # noqa: E731
    assert str(jax.make_jaxpr(loss)(logits)).count("dot_general") == 1
    assert str(jax.make_jaxpr(jax.grad(loss))(logits)).count("dot_general") == 3


def test_one_gradient_an_example():
    """Under `vmap`, as for per-example clipping: each row's gradient is the row's alone."""
    logits, targets, kept = problem()
    one = lambda h, t, m: in_chunks(logits.replace(hidden=h[None]), t[None], m[None], chunk_bytes=4 * V)[0]  # noqa: E731
    got = jax.vmap(jax.grad(one))(logits.hidden, targets, kept)
    for i in range(B):
        row = logits.replace(hidden=logits.hidden[i : i + 1])
        expected = exact(row, targets[i : i + 1], kept[i : i + 1], 0.0)[2][0][0]
        assert worst(got[i], expected) < 1e-6


def test_the_size_on_a_device_decides(monkeypatch):
    """The language loss: at the limit the plain form to the bit, above it chunks; eight devices hold an eighth each."""
    logits, targets, kept = problem(batch=8)
    assert logits.device_bytes == 4 * 8 * T * V
    with jax.set_mesh(make_mesh({"data": 8})):
        assert logits.device_bytes == 4 * T * V
    used = []
    monkeypatch.setattr(chunked, "cross_entropy", lambda *a: used.append(a) or ({}, {}))
    monkeypatch.setattr(chunked, "CHUNK_BYTES", logits.device_bytes)
    got, expected = (language.cross_entropy(x, targets, kept, 0.1) for x in (logits, logits.array()))
    assert not used
    for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    monkeypatch.setattr(chunked, "CHUNK_BYTES", logits.device_bytes - 1)
    language.cross_entropy(logits, targets, kept, 0.1)
    assert len(used) == 1


def test_the_head_defers():
    x, kernel = jnp.ones((2, 3, D)), jnp.ones((D, V))
    dims = (((2,), (0,)), ((), ()))
    deferred = logits_dot(defer=True)(x, kernel, dims) + jnp.arange(float(V))
    assert deferred.shape == (2, 3, V)
    np.testing.assert_array_equal(deferred.array()[1, 2], D + np.arange(V))
    np.testing.assert_array_equal(logits_dot(defer=False)(x, kernel, dims), np.full((2, 3, V), D))


# What is held


def shapes(jaxpr):
    """The shape of every value of a jaxpr, those inside its loops and calls too."""
    for eqn in jaxpr.eqns:
        yield from (v.aval.shape for v in eqn.outvars)
        for value in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from shapes(inner)


LONG = {"batch": 8, "length": 64, "width": 16, "vocab": 512}


def gradient(loss, **how):
    logits, targets, kept = problem(**LONG)
    run = lambda x: jax.value_and_grad(lambda x: loss(x, targets, kept, 0.1, **how)[0])(x)  # noqa: E731
    return run, logits


def plain(logits, *rest):
    return plainly(logits.array(), *rest)


def test_no_value_of_the_program_is_as_large_as_the_logits():
    whole, chunk = 8 * 64 * 512, 64 * 512
    run, logits = gradient(plain)
    assert max(map(math.prod, shapes(jax.make_jaxpr(run)(logits).jaxpr))) == whole
    run, logits = gradient(in_chunks, chunk_bytes=4 * chunk)
    assert max(map(math.prod, shapes(jax.make_jaxpr(run)(logits).jaxpr))) == chunk


def test_the_compiled_program_needs_no_room_for_the_logits():
    whole = 4 * 8 * 64 * 512
    temporary = {}
    for name, loss, how in (("plain", plain, {}), ("chunked", in_chunks, {"chunk_bytes": whole // 16})):
        run, logits = gradient(loss, **how)
        temporary[name] = jax.jit(run).lower(logits).compile().memory_analysis().temp_size_in_bytes
    assert temporary["plain"] > whole
    assert temporary["chunked"] < whole / 2


# Several devices


@pytest.mark.parametrize(
    ("axis", "spec"), [(1, P(None, "data")), (1, P()), (0, P("data", None)), (1, P("model", None))]
)
def test_eight_devices_are_one(axis, spec):
    """Rows over the data axis, the matrix whole, FSDP's or by vocabulary; sums differ in their order alone."""
    logits, targets, kept = problem(batch=8, width=8, vocab=12, axis=axis)
    how = {"chunk_bytes": 4 * 12 * 2}
    (scalar, metrics), grads = value_and_grad(in_chunks, logits, targets, kept, 0.1, **how)
    grid = make_mesh({"data": 4, "model": 2})
    with jax.set_mesh(grid):
        place = lambda x, spec: jax.device_put(x, NamedSharding(grid, spec))  # noqa: E731
        spread = logits.replace(hidden=place(logits.hidden, P("data")), matrix=place(logits.matrix, spec))
        rows = [place(x, P("data")) for x in (targets, kept)]
        run = jax.jit(jax.value_and_grad(lambda x, *r: in_chunks(x, *r, 0.1, **how), has_aux=True))
        (other, others), theirs = run(spread, *rows)
        text = run.lower(spread, *rows).compile().as_text()
    assert float(other) == pytest.approx(float(scalar), rel=1e-6)
    assert [float(v) for v in jax.tree.leaves(others)] == pytest.approx(
        [float(v) for v in jax.tree.leaves(metrics)], rel=1e-6
    )
    for a, b in zip(*map(jax.tree.leaves, (theirs, grads)), strict=True):
        assert worst(a, np.asarray(b, np.float64)) < 1e-6
    if spec != P("model", None):  # a vocabulary in pieces is summed over in each chunk
        assert messages_in_loops(text) == []


def messages_in_loops(text):
    """The collective operations in the bodies of a compiled program's loops."""
    bodies = set(re.findall(r"body=%?([\w.-]+)", text))
    assert bodies
    blocks = re.split(r"\n(?=%?[\w.-]+ \(.*\{|ENTRY)", text)
    inside = [b for b in blocks if (m := re.match(r"%?([\w.-]+) ", b)) and m.group(1) in bodies]
    assert len(inside) == len(bodies)
    return [
        line for b in inside for line in b.splitlines() if re.search(r"all-(reduce|gather|to-all)|reduce-scatter", line)
    ]


def test_weights_are_of_the_first_axes_or_of_all():
    logits = DeferredLogits(jnp.ones((2, 3, 4)), jnp.ones((5, 4)), None, 1)
    unchecked = inspect.unwrap(chunked.cross_entropy)  # the types, which tests check, refuse these shapes before
    for shape in ((3,), (2, 1), (1, 3)):
        with pytest.raises(UserError, match=r"for values of \[2, 3\]"):
            unchecked(logits, jnp.zeros((2, 3), jnp.int32), jnp.ones(shape))
