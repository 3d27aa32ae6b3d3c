"""(seed, step) -> batch. Iterators are stateless: a batch is computed from its step, so resuming needs no saved state.

A source has `__len__()`, its examples per epoch, and `gather(indices i64[n], epoch) -> {name: array[n, ...]}`, a pure
function. Example p of a run, p = step * batch_size + row, is at position p mod n of the permutation of epoch p // n: an
epoch has every example exactly once, for any batch size, number of hosts and step at which a run was resumed. No array has
the name "mask": it is that of what tells a batch's real rows from those that fill it up.
"""

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from research.core import mesh as mesh_lib
from research.core.step import Launch
from research.util.errors import UserError

Batch = dict[str, np.ndarray]
MASK = "mask"  # the array of a batch that says which of its rows are real, f32[B]


class Source(Protocol):
    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray, epoch: int) -> Batch: ...


class Arrays:
    """Arrays in memory as a source: `{name: array[n, ...]}`. Raises UserError if their lengths differ."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        sizes = {k: len(v) for k, v in arrays.items()}
        if len(set(sizes.values())) != 1:
            raise UserError(f"arrays of one data set differ in length: {sizes}")
        self.arrays = dict(arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def gather(self, indices: np.ndarray, epoch: int) -> Batch:
        return {k: v[indices] for k, v in self.arrays.items()}


def check_seed(seed: int) -> None:
    """Raises UserError for a seed that NumPy or JAX cannot take."""
    if not 0 <= seed < 2**63:
        raise UserError(f"seed = {seed}: at least 0 and below 2**63")


def unmasked(batch: Batch) -> Batch:
    """A batch of a source as it is. Raises UserError if it has an array MASK, which would be lost in evaluation alone."""
    if MASK in batch:
        raise UserError(
            f"the data has an array {MASK!r}, the name of what tells a batch's real rows from those that fill it up; "
            "give the array another name"
        )
    return batch


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


class TrainBatches:
    """Endless batches of a source, shuffled anew each epoch or in the source's order. `epoch` is the examples per epoch.

    >>> batches = TrainBatches(Arrays({"x": np.arange(3)}), batch_size=2, seed=0, shuffle=False)
    >>> [batches.batch(step)["x"].tolist() for step in range(3)]  # the second batch spans two epochs
    [[0, 1], [2, 0], [1, 2]]
    """

    def __init__(self, source: Source, batch_size: int, seed: int, shuffle: bool = True):
        if not len(source):
            raise UserError("the training data holds no example")
        if batch_size < 1:
            raise UserError(f"data.batch_size = {batch_size}: at least 1")
        check_seed(seed)
        self.source, self.batch_size, self.seed, self.epoch = source, batch_size, seed, len(source)
        self.shuffle = shuffle

    def numbers(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the batch of `step` -> their examples' indices in the source, and their epochs: i64[rows] each."""
        positions = step * self.batch_size + np.arange(self.batch_size)[rows]
        epochs, positions = np.divmod(positions, self.epoch)
        if not self.shuffle:
            return positions, epochs
        indices = np.empty_like(positions)
        for e in np.unique(epochs):
            indices[epochs == e] = _permutation(self.epoch, self.seed, int(e))[positions[epochs == e]]
        return indices, epochs

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """Rows of the batch of `step`: {name: array[rows, ...]}."""
        indices, epochs = self.numbers(step, rows)
        parts = [unmasked(self.source.gather(indices[epochs == e], int(e))) for e in np.unique(epochs)]
        return parts[0] if len(parts) == 1 else {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    @property
    def examples_per_step(self) -> float:
        """Converts durations in epochs and examples to steps."""
        return self.batch_size

    @functools.cached_property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the global batch."""
        return _spec(self.source, self.batch_size)

    @property
    def shapes(self) -> list[dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and dtypes of each kind of batch; all have the same."""
        return [self.spec]

    @property
    def units(self) -> dict[str, int]:
        """The units of throughput in a batch: examples, and tokens if there is a "tokens" array."""
        tokens = self.spec.get("tokens")
        return {"examples": self.batch_size} | ({} if tokens is None else {"tokens": int(np.prod(tokens.shape))})

    def size(self, step: int) -> int:
        """Rows of the batch of `step`."""
        return self.batch_size

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        return on_device(self, mesh, start, stop)

    def launches(self, mesh: Mesh, bounds: Sequence[int]) -> Iterator[Launch]:
        """For each pair of adjacent `bounds` a, b the batches of steps a..b-1, stacked: arrays [b - a, B, ...]."""
        return map(Launch, on_device(_Stacked(self, bounds), mesh, 0, len(bounds) - 1, stacked=True))


class EvalBatches:
    """One ordered pass over a source; the last batch is padded to full size with rows whose `mask` f32[B] is 0.

    >>> batches = EvalBatches(Arrays({"x": np.arange(3)}), batch_size=2)
    >>> batches.batch(len(batches) - 1)["mask"].tolist()
    [1.0, 0.0]
    """

    def __init__(self, source: Source, batch_size: int):
        if not len(source):
            raise UserError("the evaluation data holds no example")
        if batch_size < 1:
            raise UserError(f"data.eval_batch_size = {batch_size}: at least 1")
        self.source, self.batch_size = source, batch_size

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """Rows of the batch of `step`: {name: array[rows, ...], "mask": f32[rows]}."""
        indices = step * self.batch_size + np.arange(self.batch_size)[rows]
        real = indices < len(self.source)
        return {**unmasked(self.source.gather(np.where(real, indices, 0), 0)), MASK: real.astype(np.float32)}

    @functools.cached_property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            **_spec(self.source, self.batch_size),
            MASK: jax.ShapeDtypeStruct((self.batch_size,), np.float32),
        }

    def size(self, step: int) -> int:
        """Rows of the batch of `step`."""
        return self.batch_size

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        return on_device(self, mesh, start, stop)


def _spec(source: Source, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    row = unmasked(source.gather(np.zeros(1, np.int64), 0))
    return {k: jax.ShapeDtypeStruct((batch_size, *v.shape[1:]), v.dtype) for k, v in row.items()}


class _Stacked:
    """The batches of each launch stacked into one, whose rows are the second axis."""

    def __init__(self, batches: TrainBatches, bounds: Sequence[int]):
        self._batches, self._bounds, self.batch_size = batches, bounds, batches.batch_size

    def size(self, number: int) -> int:
        """Rows of each batch of a launch."""
        return self._batches.size(int(self._bounds[number]))

    def batch(self, number: int, rows: slice) -> Batch:
        steps = range(int(self._bounds[number]), int(self._bounds[number + 1]))
        parts = [self._batches.batch(step, rows) for step in steps]
        return {k: np.stack([part[k] for part in parts]) for k in parts[0]}


class _GrainSource:
    """Batches by step, as Grain's random-access source."""

    def __init__(self, batches: Any, mesh: Mesh, stop: int):
        self._batches, self._stop = batches, stop
        self._rows = functools.cache(functools.partial(mesh_lib.host_rows, mesh))

    def __len__(self) -> int:
        return self._stop

    def __getitem__(self, step: int) -> Batch:
        return self._batches.batch(step, self._rows(self._batches.size(step)))


def on_device(
    batches: Any, mesh: Mesh, start: int, stop: int, ahead: int = 2, stacked: bool = False
) -> Iterator[dict[str, jax.Array]]:
    """Batches of steps start..stop-1 as global arrays sharded over the data axis.

    A thread computes them; each is transferred `ahead` batches before it is used. With `stacked`, rows are the second axis.
    """
    if start >= stop:
        return
    mesh_lib.host_rows(mesh, batches.batch_size)  # raises errors before the thread starts
    import grain.python as grain  # only when batches are read: building or showing an experiment does not need it

    dataset: Any = grain.MapDataset.source(_GrainSource(batches, mesh, stop))[start:]
    host = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2 * ahead)))
    queue: deque = deque()
    try:
        for step, batch in enumerate(host, start):
            queue.append(mesh_lib.to_device(batch, mesh, batches.size(step), stacked))
            if len(queue) > ahead:
                yield queue.popleft()
        yield from queue
    finally:
        host.close()  # a run that ends early does not wait for prefetched batches
