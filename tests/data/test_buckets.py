"""Length buckets: every example once an epoch, batches of one length, found from their number alone."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.core.mesh import make_mesh
from research.data.buckets import Bucketed, Ragged, bounds
from research.util.errors import UserError


def ragged(lengths):
    """Example i is i + 1, as often as it is long; its second sequence is one shorter."""
    first = [np.full(n, i + 1) for i, n in enumerate(lengths)]
    second = [np.full(n - 1, -(i + 1)) for i, n in enumerate(lengths)]
    return Ragged({"a": first, "b": second}, {"number": np.arange(len(lengths))})


def test_ragged_pads_by_hand():
    source = Ragged({"x": [np.array([5, 6]), np.array([7]), np.array([], int)]}, {"label": np.array([1, 0, 2])}, pad=9)
    batch = source.gather(np.array([2, 0, 1]), 0, 3)
    assert batch["x"].tolist() == [[9, 9, 9], [5, 6, 9], [7, 9, 9]]
    assert batch["x_mask"].tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert batch["label"].tolist() == [2, 1, 0]
    assert (batch["x"].dtype, batch["x_mask"].dtype) == (np.int32, np.float32)
    assert source.lengths.tolist() == [2, 1, 0] and len(source) == 3
    assert source.gather(np.array([0]))["x"].shape == (1, 2)
    assert Ragged({"a": [np.zeros(2)], "b": [np.zeros(5)]}).lengths.tolist() == [5]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    tokens=st.integers(1, 200),
    multiple=st.sampled_from([1, 2, 8]),
    seed=st.one_of(st.none(), st.integers(0, 2**40)),
)
def test_every_example_once_an_epoch(lengths, tokens, multiple, seed):
    limits = [4, 10, 30]
    data = Bucketed(ragged(lengths), limits, tokens, seed, multiple)
    orders = []
    for epoch in range(2 if seed is not None else 1):
        seen = []
        for step in range(epoch * data.steps, (epoch + 1) * data.steps):
            batch = data.batch(step)
            rows, L = batch["a"].shape
            assert L in limits and rows == data.size(step) == max(tokens // L // multiple * multiple, multiple)
            assert rows % data.batch_size == 0 and data.batch_size % multiple == 0
            real = batch["number"][batch["mask"] == 1]
            for i, mask, a, b in zip(batch["number"], batch["mask"], batch["a"], batch["b"], strict=True):
                shorter = [x for x in limits if x < L]
                assert lengths[i] <= L and (not shorter or lengths[i] > shorter[-1] or not mask)
                np.testing.assert_array_equal(a, [i + 1] * lengths[i] + [0] * (L - lengths[i]))
                assert (b != 0).sum() == lengths[i] - 1
            numbers, epochs = data.numbers(step)
            np.testing.assert_array_equal(numbers, real)
            assert (epochs == epoch).all()
            seen += real.tolist()
        assert sorted(seen) == list(range(len(lengths)))
        orders.append(seen)
    assert data.epoch == len(lengths) and len(data) == data.steps


def test_epochs_have_orders_of_their_own_and_a_pass_has_none():
    lengths = np.random.default_rng(0).integers(1, 31, 400)
    data = Bucketed(ragged(lengths), [10, 20, 30], 120, seed=3, multiple=2)
    orders = [[data.batch(e * data.steps + k)["a"].shape[1] for k in range(data.steps)] for e in range(3)]
    assert len({tuple(o) for o in orders}) == 3 and len({tuple(sorted(o)) for o in orders}) == 1
    assert orders[0] != sorted(orders[0])
    firsts = [data.numbers(e * data.steps)[0].tolist() for e in range(3)]
    assert len({tuple(f) for f in firsts}) == 3
    again = Bucketed(ragged(lengths), [10, 20, 30], 120, seed=3, multiple=2)
    for step in (7, 0, 1_000_000_007):  # any order, however far
        np.testing.assert_array_equal(again.batch(step)["a"], data.batch(step)["a"])
    other = Bucketed(ragged(lengths), [10, 20, 30], 120, seed=4, multiple=2)
    assert [other.size(k) for k in range(other.steps)] != [data.size(k) for k in range(data.steps)]
    ordered = Bucketed(ragged(lengths), [10, 20, 30], 120, multiple=2)
    L = [ordered.batch(k)["a"].shape[1] for k in range(len(ordered))]
    assert L == sorted(L)
    assert ordered.numbers(0)[0].tolist() == np.flatnonzero(lengths <= 10)[:12].tolist()


def test_rows_are_what_the_whole_batch_has():
    data = Bucketed(ragged([3, 9, 2, 4, 8, 1, 1]), [4, 10], 32, seed=0, multiple=4)
    for step in range(2 * data.steps):
        whole = data.batch(step)
        for half in (slice(0, data.size(step) // 2), slice(data.size(step) // 2, None)):
            part = data.batch(step, half)
            for name in whole:
                np.testing.assert_array_equal(part[name], whole[name][half])


@pytest.mark.parametrize("devices", [1, 8])
def test_on_device_gives_batches_of_every_length(devices):
    lengths = np.random.default_rng(1).integers(1, 31, 100)
    mesh = make_mesh({"data": devices})
    for seed in (5, None):
        data = Bucketed(ragged(lengths), [10, 30], 250, seed=seed)
        start, stop = 1, data.steps
        seen = list(data.on_device(mesh, start, stop))
        assert len(seen) == stop - start
        for step, batch in enumerate(seen, start):
            assert batch["a"].addressable_shards[0].data.shape[0] == data.size(step) // devices
            for name, want in data.batch(step).items():
                np.testing.assert_array_equal(batch[name], want)
        assert {s["a"].shape for s in seen} == {s["a"].shape for s in data.shapes} == {(24, 10), (8, 30)}


def test_spec_units_and_report():
    data = Bucketed(ragged([10] * 30 + [28] * 10), [10, 30], 250, seed=0)
    assert [s["a"].shape for s in data.shapes] == [(24, 10), (8, 30)]
    assert Bucketed(ragged([10, 28]), [10, 30], 230, seed=0).spec["mask"] == jax.ShapeDtypeStruct((8,), np.float32)
    assert data.spec == data.shapes[0]  # of 240 places both
    assert data.steps == 2 + 2 and data.units == {"examples": 10, "tokens": 145}
    assert data.report == ["buckets  length x rows: 10 x 24, 30 x 8; 4 batches an epoch, 40% padding"]  # 580 of 960


def test_bounds_share_the_places_to_fill():
    assert bounds(np.array([8] * 60 + [16] * 30), 2) == [8, 16]
    assert bounds(np.array([5, 9, 17]), 1) == [24]
    assert bounds(np.array([5, 5, 5]), 4) == [8]
    assert bounds(np.arange(1, 101), 4, multiple=1) == [50, 71, 87, 100]  # 100 sqrt(k / 4), up


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: Bucketed(ragged([4, 31]), [10, 30], 64, 0),
            "example 1 has 31 tokens, more than the 30 of the longest",
        ),
        (lambda: Bucketed(ragged([4]), [30, 10], 64, 0), r"buckets = \[30, 10\]"),
        (lambda: Bucketed(ragged([4]), [], 64, 0), r"buckets = \[\]"),
        (lambda: Bucketed(ragged([4]), [30], 0, 0), "tokens a batch = 0"),
        (lambda: Bucketed(ragged([4]), [30], 64, -1), "seed = -1"),
        (lambda: Bucketed(Ragged({"a": []}), [30], 64, 0), "no example"),
        (lambda: Ragged({"a": [np.zeros(1)], "b": []}), "differ in length: {'a': 1, 'b': 0}"),
        (lambda: bounds(np.array([3]), 0), "data.buckets = 0"),
        (
            lambda: next(Bucketed(ragged([4] * 9), [10], 64, 0, 3).on_device(make_mesh({"data": 8}), 0, 1)),
            "does not divide by the data axis of 8",
        ),
    ],
)
def test_mistakes_are_named(make, told):
    with pytest.raises(UserError, match=told):
        make()
