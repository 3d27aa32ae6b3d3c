import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.core.mesh import make_mesh
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.util.errors import UserError


class Numbers:
    """Each example is its own index, and the epoch that it was asked for in."""

    def __init__(self, n, delays=None):
        self.n, self.delays = n, delays

    def __len__(self):
        return self.n

    def gather(self, indices, epoch):
        if self.delays is not None:
            time.sleep(self.delays.uniform(0, 0.004))
        return {"x": np.asarray(indices), "epoch": np.full(len(indices), epoch)}


sizes = st.integers(1, 40)
seeds = st.integers(0, 2**40)


@settings(deadline=None)
@given(n=sizes, batch_size=sizes, seed=seeds)
def test_each_example_comes_exactly_once_an_epoch(n, batch_size, seed):
    stream = TrainBatches(Numbers(n), batch_size, seed)
    batches = [stream.batch(step) for step in range(-(-3 * n // batch_size))]
    assert all(len(b["x"]) == batch_size for b in batches)
    x, epoch = (np.concatenate([b[k] for b in batches])[: 3 * n] for k in ("x", "epoch"))
    np.testing.assert_array_equal(epoch, np.repeat([0, 1, 2], n))  # batches straddle epochs
    for e in range(3):
        np.testing.assert_array_equal(np.sort(x[epoch == e]), np.arange(n))


@settings(deadline=None)
@given(
    n=sizes,
    rows=st.integers(1, 6),
    hosts=st.integers(1, 6),
    step=st.integers(0, 10**9),
    sweep=st.booleans(),
)
def test_the_hosts_slices_are_the_batch_in_order(n, rows, hosts, step, sweep):
    batches = EvalBatches(Numbers(n), rows * hosts) if sweep else TrainBatches(Numbers(n), rows * hosts, 0)
    whole = batches.batch(step)
    parts = [batches.batch(step, slice(h * rows, (h + 1) * rows)) for h in range(hosts)]
    assert {len(p["x"]) for p in parts} == {rows}
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])


@settings(deadline=None)
@given(n=sizes, batch_size=sizes, seed=seeds, steps=st.lists(st.integers(0, 30), max_size=5))
def test_a_batch_does_not_depend_on_what_was_read_before(n, batch_size, seed, steps):
    used = TrainBatches(Numbers(n), batch_size, seed)
    for step in steps:
        fresh = TrainBatches(Numbers(n), batch_size, seed).batch(step)
        np.testing.assert_array_equal(used.batch(step)["x"], fresh["x"])


def test_the_order_changes_with_the_epoch_and_with_the_seed():
    def order(seed, epoch):
        return tuple(TrainBatches(Numbers(100), 100, seed).batch(epoch)["x"])

    orders = {order(seed, epoch) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert tuple(range(100)) not in orders
    assert order(3, 4) == order(3, 4)


@settings(deadline=None)
@given(n=sizes, batch_size=sizes)
def test_a_sweep_is_one_ordered_pass(n, batch_size):
    sweep = EvalBatches(Numbers(n), batch_size)
    batches = [sweep.batch(step) for step in range(len(sweep))]
    assert len(sweep) == int(np.ceil(n / batch_size))
    x, mask = (np.concatenate([b[k] for b in batches]) for k in ("x", "mask"))
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(x[mask == 1], np.arange(n))
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < n)
    assert all(b["x"].shape == (batch_size,) for b in batches)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("start", [0, 3, 11])
def test_on_device_gives_the_same_batches_from_any_start(start, devices):
    mesh = make_mesh({"data": devices})
    for batches in (TrainBatches(Numbers(50), 16, 1), EvalBatches(Numbers(185), 16)):
        stop = 12
        seen = list(batches.on_device(mesh, start, stop))
        assert len(seen) == stop - start
        for step, batch in enumerate(seen, start):
            assert batch["x"].sharding.mesh == mesh
            assert batch["x"].addressable_shards[-1].data.shape == (16 // devices,)
            for name, want in batches.batch(step).items():
                np.testing.assert_array_equal(batch[name], want)
    assert not list(batches.on_device(mesh, stop, stop))


def test_prefetching_cannot_change_what_a_step_sees():
    rng = np.random.default_rng(0)
    stream = TrainBatches(Numbers(37, delays=rng), 8, 1)
    want = TrainBatches(Numbers(37), 8, 1)
    for step, batch in enumerate(stream.on_device(make_mesh({"data": 4}), 5, 45), 5):
        time.sleep(rng.choice([0, 0.01]))  # now the reader waits, now the step
        np.testing.assert_array_equal(batch["x"], want.batch(step)["x"])
        if step == 20:
            stream.batch(0)  # another reader of the same stream
    assert step == 44


def test_a_spec_is_what_the_batches_are():
    data = Arrays({"image": np.zeros((10, 4, 4, 1), np.float32), "label": np.arange(10, dtype=np.int32)})
    for batches in (TrainBatches(data, 3, 0), EvalBatches(data, 3)):
        have = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batches.batch(3).items()}
        assert batches.spec == have
    assert TrainBatches(data, 3, 0).epoch == 10


def test_mistakes_are_named():
    with pytest.raises(UserError, match="differ in length: {'a': 2, 'b': 3}"):
        Arrays({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(UserError, match="training data holds no example"):
        TrainBatches(Numbers(0), 1, 0)
    with pytest.raises(UserError, match="evaluation data holds no example"):
        EvalBatches(Numbers(0), 1)
    with pytest.raises(UserError, match="data.batch_size = 0"):
        TrainBatches(Numbers(1), 0, 0)
    with pytest.raises(UserError, match="data.eval_batch_size = 0"):
        EvalBatches(Numbers(1), 0)
    with pytest.raises(UserError, match="seed = -1"):
        TrainBatches(Numbers(1), 1, -1)
    with pytest.raises(UserError, match="data.batch_size = 12 does not divide"):
        next(TrainBatches(Numbers(5), 12, 0).on_device(make_mesh({"data": 8}), 0, 1))


def test_the_name_of_the_row_mask_is_reserved():
    """In evaluation it would be lost under the mask of rows, in training not: the same data had two losses."""
    data = Arrays({"x": np.zeros(4), "mask": np.array([1.0, 0, 0, 0])})
    for batches in (TrainBatches(data, 2, 0), EvalBatches(data, 2)):
        for look in (lambda batches=batches: batches.batch(0), lambda batches=batches: batches.spec):
            with pytest.raises(UserError, match="an array 'mask'.* give the array another name"):
                look()


def test_seeds_that_nothing_can_take():
    for seed in (-1, 2**63, 10**19):
        with pytest.raises(UserError, match=f"seed = {seed}: at least 0 and below 2\\*\\*63"):
            TrainBatches(Numbers(1), 1, seed)
