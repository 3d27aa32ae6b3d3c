"""Length buckets: batches of examples about as long as each other, as a function of (seed, step).

An example belongs to the shortest bucket that holds it; a batch is of one bucket, whose examples are padded to
its length L and of which it has about `tokens // L`. So a batch costs about the same whatever its L, few places
are padding, and a step is compiled once a bucket. Which batches there are does not depend on the epoch: batch
number `step` is found without those before it, as in `pipeline.TrainBatches`.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from research.data import pipeline
from research.data.pipeline import Batch
from research.util.errors import UserError

_ORDER, _WITHIN = 2, 3  # keep these draws apart from the others of (seed, epoch)


class RaggedSource(Protocol):
    """`lengths` i64[n]: the places that an example needs, those of its longest sequence."""

    lengths: np.ndarray

    def gather(self, indices: np.ndarray, epoch: int, length: int) -> Batch:
        """{name: array[n, ...]}, every sequence padded to `length` places; pure."""


class Ragged:
    """Sequences in memory: `{"source": [i32[5], i32[7], ...]}` -> `source` i32[n, L], `source_mask` f32[n, L].

    Places behind a sequence hold `pad`, and 0 in its mask. `arrays` are passed on row by row. Several
    sequences (a sentence and its translation) are padded to one length.
    """

    def __init__(
        self,
        sequences: Mapping[str, Sequence[np.ndarray]],
        arrays: Mapping[str, np.ndarray] | None = None,
        pad: int = 0,
    ):
        self.arrays, self.pad = dict(arrays or {}), pad
        sizes = {name: len(values) for name, values in [*sequences.items(), *self.arrays.items()]}
        if len(set(sizes.values())) != 1:
            raise UserError(f"arrays of one data set differ in length: {sizes}")
        self._sizes = {name: np.array([len(v) for v in values], np.int64) for name, values in sequences.items()}
        self._flat = {name: np.concatenate([*values, [pad]]).astype(np.int32) for name, values in sequences.items()}
        self._starts = {name: np.cumsum(n) - n for name, n in self._sizes.items()}
        self.lengths = np.max(list(self._sizes.values()), axis=0)

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, indices: np.ndarray, epoch: int = 0, length: int | None = None) -> Batch:
        """`length` None: that of the longest among all examples."""
        indices = np.asarray(indices, np.int64)
        places = np.arange(self.lengths.max() if length is None else length)
        batch: Batch = {name: values[indices] for name, values in self.arrays.items()}
        for name, flat in self._flat.items():
            inside = places < self._sizes[name][indices, None]
            at = np.where(inside, self._starts[name][indices, None] + places, len(flat) - 1)
            batch |= {name: flat[at], f"{name}_mask": inside.astype(np.float32)}
        return batch


def bounds(lengths: np.ndarray, count: int, multiple: int = 8) -> list[int]:
    """Lengths L of at most `count` buckets, each with about as many places to fill: multiples of `multiple`.

    The last holds the longest example.
    """
    if count < 1:
        raise UserError(f"data.buckets = {count}: at least 1")
    ordered = np.sort(np.asarray(lengths, np.int64))
    filled = np.cumsum(ordered)
    ends = np.searchsorted(filled, filled[-1] * np.arange(1, count + 1) / count)
    return sorted({int(-(-max(n, 1) // multiple) * multiple) for n in ordered[np.minimum(ends, len(ordered) - 1)]})


class Bucketed:
    """Batches of a `RaggedSource` by length. With a seed, endless and shuffled; without, one ordered pass.

    `bounds` are the buckets' lengths L, ascending. A batch of L has `tokens // L` rows, down to a multiple of
    `multiple` (which the data axis of the mesh must divide), at least `multiple`. In an epoch every example
    comes exactly once: the last batch of a bucket is filled up with rows of `mask` 0 (`mask` f32[rows] is in
    every batch), and the order of the batches, and of the examples in a bucket, is the epoch's own.

    As `pipeline.TrainBatches` or, with `len`, as `pipeline.EvalBatches`, except that the batches' shapes differ: `spec`
    is the largest, `shapes` are all. `steps` is the batches an epoch; `batch_size` divides the rows of every batch.
    """

    def __init__(
        self, source: RaggedSource, bounds: Sequence[int], tokens: int, seed: int | None = None, multiple: int = 8
    ):
        lengths = np.asarray(source.lengths, np.int64)
        _check(lengths, bounds, tokens, seed, multiple)
        self.source, self.seed, self.epoch = source, seed, len(lengths)
        of = np.searchsorted(bounds, lengths)
        used = [b for b in range(len(bounds)) if (of == b).any()]
        self._members = [np.flatnonzero(of == b) for b in used]
        self._lengths = [int(bounds[b]) for b in used]
        self._rows = [max(tokens // n // multiple * multiple, multiple) for n in self._lengths]
        counts = [-(-len(m) // rows) for m, rows in zip(self._members, self._rows, strict=True)]
        self._ends = np.cumsum(counts)
        self.steps = int(self._ends[-1])
        self.batch_size = math.gcd(*self._rows)
        self._real = int(lengths.sum())

    def __len__(self) -> int:
        return self.steps

    @property
    def examples_per_step(self) -> float:
        """On average: by which durations in epochs and examples become steps."""
        return self.epoch / self.steps

    def _find(self, step: int) -> tuple[int, int, int]:
        """Batch number `step` -> its epoch, its bucket, and which of the bucket's batches it is."""
        if self.seed is None:
            epoch, place = 0, step
        else:
            epoch, place = divmod(step, self.steps)
            place = int(_permutation(self.steps, self.seed, epoch, _ORDER)[place])
        bucket = int(np.searchsorted(self._ends, place, side="right"))
        return epoch, bucket, place - int(self._ends[bucket - 1] if bucket else 0)

    def size(self, step: int) -> int:
        """The rows of batch number `step`, those that fill it up too."""
        return self._rows[self._find(step)[1]]

    def _places(self, step: int, rows: slice) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Examples of the rows and which of them are real, the epoch, and L."""
        epoch, bucket, number = self._find(step)
        members, size = self._members[bucket], self._rows[bucket]
        places = number * size + np.arange(size)[rows]
        real = places < len(members)
        places = np.where(real, places, 0)
        if self.seed is not None:
            places = _permutation(len(members), self.seed, epoch, _WITHIN, bucket)[places]
        return members[places], real, epoch, self._lengths[bucket]

    def numbers(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Rows of batch number `step` -> the places in the source and the epochs of those that are examples."""
        indices, real, epoch, _ = self._places(step, rows)
        return indices[real], np.full(int(real.sum()), epoch)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """Rows of batch number `step`: {name: array[rows, ...]}."""
        indices, real, epoch, length = self._places(step, rows)
        return {**self.source.gather(indices, epoch, length), "mask": real.astype(np.float32)}

    @functools.cached_property
    def shapes(self) -> list[dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and dtypes of each bucket's batches, the shortest first."""
        out = []
        for length, rows in zip(self._lengths, self._rows, strict=True):
            row = {**self.source.gather(np.zeros(1, np.int64), 0, length), "mask": np.ones(1, np.float32)}
            out.append({k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in row.items()})
        return out

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the batch of the most places."""
        return self.shapes[int(np.argmax(np.multiply(self._lengths, self._rows)))]

    @property
    def units(self) -> dict[str, int]:
        """What a batch holds on average: examples, and tokens that are no padding."""
        return {"examples": round(self.epoch / self.steps), "tokens": round(self._real / self.steps)}

    @property
    def report(self) -> list[str]:
        """What the buckets are, and how much of the batches is padding."""
        counts = np.diff(self._ends, prepend=0)
        places = int(np.sum(counts * np.multiply(self._lengths, self._rows)))
        sizes = ", ".join(f"{n} x {rows}" for n, rows in zip(self._lengths, self._rows, strict=True))
        return [
            f"buckets  length x rows: {sizes}; {self.steps:,} batches an epoch, {1 - self._real / places:.0%} padding"
        ]

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        return pipeline.on_device(self, mesh, start, stop)

    launches = pipeline.TrainBatches.launches


@functools.lru_cache(maxsize=64)
def _permutation(n: int, seed: int, epoch: int, *tag: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, *tag)).permutation(n)


def _check(lengths: np.ndarray, bounds: Sequence[int], tokens: int, seed: int | None, multiple: int) -> None:
    if not len(lengths):
        raise UserError("the data holds no example")
    if not bounds or list(bounds) != sorted(set(bounds)) or bounds[0] < 1:
        raise UserError(f"buckets = {list(bounds)}: lengths of at least 1, ascending")
    if tokens < 1 or multiple < 1:
        raise UserError(f"tokens a batch = {tokens}, rows a multiple of {multiple}: at least 1 each")
    if seed is not None and seed < 0:
        raise UserError(f"seed = {seed}: at least 0")
    if (longest := int(lengths.max())) > bounds[-1]:
        raise UserError(
            f"example {int(lengths.argmax())} has {longest:,} tokens, more than the {bounds[-1]:,} of the longest "
            "bucket; cut it, leave it out, or raise the length"
        )
