"""(seed, step) -> batch. No iterator has a state: a batch is computed from its number, so seeking costs nothing.

A source has `__len__()`, its examples an epoch, and `gather(indices i64[n], epoch) -> {name: array[n, ...]}`, a pure
function. Example number p of a run (step * batch_size + row) is place p mod n of epoch p // n, in that epoch's own
permutation: every example comes exactly once an epoch, whatever the batch size, the hosts or where a run was resumed.
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


class Source(Protocol):
    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray, epoch: int) -> Batch: ...


class Arrays:
    """Arrays in memory as a source: `{name: array[n, ...]}`."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        sizes = {k: len(v) for k, v in arrays.items()}
        if len(set(sizes.values())) != 1:
            raise UserError(f"arrays of one data set differ in length: {sizes}")
        self.arrays = dict(arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def gather(self, indices: np.ndarray, epoch: int) -> Batch:
        return {k: v[indices] for k, v in self.arrays.items()}


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


class TrainBatches:
    """Endless batches of a source, shuffled or in its own order. `epoch` is its examples an epoch."""

    def __init__(self, source: Source, batch_size: int, seed: int, shuffle: bool = True):
        if not len(source):
            raise UserError("the training data holds no example")
        if batch_size < 1:
            raise UserError(f"data.batch_size = {batch_size}: at least 1")
        if seed < 0:
            raise UserError(f"seed = {seed}: at least 0")
        self.source, self.batch_size, self.seed, self.epoch = source, batch_size, seed, len(source)
        self.shuffle = shuffle

    def numbers(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Rows of batch number `step` -> their examples' places in the source, and their epochs: i64[rows] each."""
        places = step * self.batch_size + np.arange(self.batch_size)[rows]
        epochs, places = np.divmod(places, self.epoch)
        if not self.shuffle:
            return places, epochs
        indices = np.empty_like(places)
        for e in np.unique(epochs):
            indices[epochs == e] = _permutation(self.epoch, self.seed, int(e))[places[epochs == e]]
        return indices, epochs

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """Rows of batch number `step`: {name: array[rows, ...]}."""
        indices, epochs = self.numbers(step, rows)
        parts = [self.source.gather(indices[epochs == e], int(e)) for e in np.unique(epochs)]
        return parts[0] if len(parts) == 1 else {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    @property
    def examples_per_step(self) -> float:
        """By which durations in epochs and examples become steps."""
        return self.batch_size

    @functools.cached_property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the global batch."""
        return _spec(self.source, self.batch_size)

    @property
    def shapes(self) -> list[dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and dtypes of each kind of batch: one kind."""
        return [self.spec]

    @property
    def units(self) -> dict[str, int]:
        """What a batch holds, as throughput counts it: examples, and tokens where there are any."""
        tokens = self.spec.get("tokens")
        return {"examples": self.batch_size} | ({} if tokens is None else {"tokens": int(np.prod(tokens.shape))})

    def size(self, step: int) -> int:
        """The rows of batch number `step`."""
        return self.batch_size

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        return on_device(self, mesh, start, stop)

    def launches(self, mesh: Mesh, bounds: Sequence[int]) -> Iterator[Launch]:
        """For each two neighbours a, b of `bounds` the batches a..b-1, stacked: arrays [b - a, B, ...]."""
        return map(Launch, on_device(_Stacked(self, bounds), mesh, 0, len(bounds) - 1, stacked=True))


class EvalBatches:
    """One ordered pass over a source in whole batches: the last is filled up with rows of `mask` 0."""

    def __init__(self, source: Source, batch_size: int):
        if not len(source):
            raise UserError("the evaluation data holds no example")
        if batch_size < 1:
            raise UserError(f"data.eval_batch_size = {batch_size}: at least 1")
        self.source, self.batch_size = source, batch_size

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        places = step * self.batch_size + np.arange(self.batch_size)[rows]
        real = places < len(self.source)
        return {**self.source.gather(np.where(real, places, 0), 0), "mask": real.astype(np.float32)}

    @functools.cached_property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            **_spec(self.source, self.batch_size),
            "mask": jax.ShapeDtypeStruct((self.batch_size,), np.float32),
        }

    def size(self, step: int) -> int:
        """The rows of batch number `step`."""
        return self.batch_size

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        return on_device(self, mesh, start, stop)


def _spec(source: Source, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    row = source.gather(np.zeros(1, np.int64), 0)
    return {k: jax.ShapeDtypeStruct((batch_size, *v.shape[1:]), v.dtype) for k, v in row.items()}


class _Stacked:
    """Launches by number, each as one batch whose rows are on the second axis."""

    def __init__(self, batches: TrainBatches, bounds: Sequence[int]):
        self._batches, self._bounds, self.batch_size = batches, bounds, batches.batch_size

    def size(self, number: int) -> int:
        """The rows of each of its batches."""
        return self._batches.size(int(self._bounds[number]))

    def batch(self, number: int, rows: slice) -> Batch:
        steps = range(int(self._bounds[number]), int(self._bounds[number + 1]))
        parts = [self._batches.batch(step, rows) for step in steps]
        return {k: np.stack([part[k] for part in parts]) for k in parts[0]}


class _Numbered:
    """Batches by number, as Grain wants a random-access source."""

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
    """Batches start..stop-1 as global arrays split over the data axis, made by a thread and sent `ahead` of their use."""
    if start >= stop:
        return
    mesh_lib.host_rows(mesh, batches.batch_size)  # told here, not by the thread
    import grain.python as grain  # where batches are wanted: not to build an experiment, or to show it

    numbered: Any = grain.MapDataset.source(_Numbered(batches, mesh, stop))[start:]
    host = iter(numbered.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2 * ahead)))
    queue: deque = deque()
    try:
        for step, batch in enumerate(host, start):
            queue.append(mesh_lib.to_device(batch, mesh, batches.size(step), stacked))
            if len(queue) > ahead:
                yield queue.popleft()
        yield from queue
    finally:
        host.close()  # a run that ends early does not wait for the batches made ahead of it
