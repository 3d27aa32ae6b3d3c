"""Length buckets: batches of examples of similar length, as a function of (seed, step).

An example belongs to the shortest bucket that fits it. A batch comes from one bucket: about `tokens // L` examples padded
to its length L. So all batches cost about the same, little is padding, and a step is compiled once per bucket. Every
epoch has the same number of batches of each bucket, so that the batch of `step` is computed without those before it, as in
`pipeline.TrainBatches`.
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

_ORDER, _WITHIN = 2, 3  # tags: random streams apart from the others of (seed, epoch)


class RaggedSource(Protocol):
    """`lengths` i64[n]: each example's tokens, those of its longest sequence."""

    lengths: np.ndarray

    def gather(self, indices: np.ndarray, epoch: int, length: int) -> Batch:
        """{name: array[n, ...]}, every sequence padded to `length` tokens; pure."""


class Ragged:
    """Sequences in memory: `{"source": [i32[5], i32[7], ...]}` -> `source` i32[n, L], `source_mask` f32[n, L].

    Padding is `pad`, and 0 in the mask. Several sequences of an example (a sentence and its translation) are padded to one
    length, or to `limits[name]` if that is less. `arrays` are gathered without change. Raises UserError if the numbers of
    examples differ.

    >>> ragged = Ragged({"source": [np.array([5]), np.array([7, 8, 9])]})
    >>> ragged.gather(np.array([0]), length=2)["source"].tolist(), ragged.lengths.tolist()
    ([[5, 0]], [1, 3])
    """

    def __init__(
        self,
        sequences: Mapping[str, Sequence[np.ndarray]],
        arrays: Mapping[str, np.ndarray] | None = None,
        pad: int = 0,
        limits: Mapping[str, int] | None = None,
    ):
        self.arrays, self.pad, self._limits = dict(arrays or {}), pad, dict(limits or {})
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
        """Padded to `length` tokens; None: to the longest of all examples."""
        indices = np.asarray(indices, np.int64)
        length = int(self.lengths.max()) if length is None else length
        batch: Batch = {name: values[indices] for name, values in self.arrays.items()}
        for name, flat in self._flat.items():
            columns = np.arange(min(length, self._limits.get(name, length)))
            inside = columns < self._sizes[name][indices, None]
            positions = np.where(inside, self._starts[name][indices, None] + columns, len(flat) - 1)
            batch |= {name: flat[positions], f"{name}_mask": inside.astype(np.float32)}
        return batch


def bounds(lengths: np.ndarray, count: int, multiple: int = 8) -> list[int]:
    """Lengths of at most `count` buckets with about as many tokens in each: multiples of `multiple`, ascending.

    The longest example fits the last. Raises UserError if `count` is below 1.

    >>> bounds(np.array([3, 5, 5, 13]), count=2, multiple=4)  # 13 tokens in each
    [8, 16]
    """
    if count < 1:
        raise UserError(f"data.buckets = {count}: at least 1")
    ordered = np.sort(np.asarray(lengths, np.int64))
    totals = np.cumsum(ordered)
    ends = np.searchsorted(totals, totals[-1] * np.arange(1, count + 1) / count)
    return sorted({int(-(-max(n, 1) // multiple) * multiple) for n in ordered[np.minimum(ends, len(ordered) - 1)]})


class Bucketed:
    """Batches of a `RaggedSource` by length. With a seed, endless and shuffled; without, one ordered pass.

    `bounds` are the buckets' lengths L, ascending. A batch of L has `tokens // L` rows, rounded down to a multiple of
    `multiple`, but at least `multiple`; the data axis of the mesh must divide `multiple`. An epoch has every example exactly
    once: the last batch of a bucket is padded with rows whose `mask` is 0 (every batch has `mask` f32[rows]). The order of
    the batches, and of the examples in a bucket, is drawn anew each epoch.

    The interface of `pipeline.TrainBatches` or, without a seed, of `pipeline.EvalBatches`, except that shapes differ between
    batches: `spec` is the largest, `shapes` are all. `steps` is the batches per epoch; `batch_size` divides the rows of every
    batch. Raises UserError if an argument is out of range or an example is longer than the last bucket.
    """

    def __init__(
        self, source: RaggedSource, bounds: Sequence[int], tokens: int, seed: int | None = None, multiple: int = 8
    ):
        lengths = np.asarray(source.lengths, np.int64)
        _check(lengths, bounds, tokens, seed, multiple)
        self.source, self.seed, self.epoch = source, seed, len(lengths)
        buckets = np.searchsorted(bounds, lengths)
        used = [b for b in range(len(bounds)) if (buckets == b).any()]
        self._members = [np.flatnonzero(buckets == b) for b in used]
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
        """The mean over an epoch; converts durations in epochs and examples to steps."""
        return self.epoch / self.steps

    def _locate(self, step: int) -> tuple[int, int, int]:
        """The batch of `step` -> its epoch, its bucket, and its number among the bucket's batches."""
        if self.seed is None:
            epoch, number = 0, step
        else:
            epoch, number = divmod(step, self.steps)
            number = int(_permutation(self.steps, self.seed, epoch, _ORDER)[number])
        bucket = int(np.searchsorted(self._ends, number, side="right"))
        return epoch, bucket, number - int(self._ends[bucket - 1] if bucket else 0)

    def size(self, step: int) -> int:
        """Rows of the batch of `step`, padding included."""
        return self._rows[self._locate(step)[1]]

    def _indices(self, step: int, rows: slice) -> tuple[np.ndarray, np.ndarray, int, int]:
        """The rows' examples i64[rows], bool[rows] (False: padding), the epoch, and L."""
        epoch, bucket, number = self._locate(step)
        members, size = self._members[bucket], self._rows[bucket]
        positions = number * size + np.arange(size)[rows]
        real = positions < len(members)
        positions = np.where(real, positions, 0)
        if self.seed is not None:
            positions = _permutation(len(members), self.seed, epoch, _WITHIN, bucket)[positions]
        return members[positions], real, epoch, self._lengths[bucket]

    def numbers(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the batch of `step`, padding left out -> their indices in the source, and their epochs: i64[n] each."""
        indices, real, epoch, _ = self._indices(step, rows)
        return indices[real], np.full(int(real.sum()), epoch)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """Rows of the batch of `step`: {name: array[rows, ...], "mask": f32[rows]}."""
        indices, real, epoch, length = self._indices(step, rows)
        return {**pipeline.unmasked(self.source.gather(indices, epoch, length)), pipeline.MASK: real.astype(np.float32)}

    @functools.cached_property
    def shapes(self) -> list[dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and dtypes of each bucket's batches, by length."""
        out = []
        for length, rows in zip(self._lengths, self._rows, strict=True):
            row = pipeline.unmasked(self.source.gather(np.zeros(1, np.int64), 0, length))
            row = {**row, pipeline.MASK: np.ones(1, np.float32)}
            out.append({k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in row.items()})
        return out

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the batches with the most tokens, padding included."""
        return self.shapes[int(np.argmax(np.multiply(self._lengths, self._rows)))]

    @property
    def units(self) -> dict[str, int]:
        """The units of throughput in an average batch: examples, and tokens without padding."""
        return {"examples": round(self.epoch / self.steps), "tokens": round(self._real / self.steps)}

    @property
    def report(self) -> list[str]:
        """The buckets' shapes, and the share of padding."""
        counts = np.diff(self._ends, prepend=0)
        total = int(np.sum(counts * np.multiply(self._lengths, self._rows)))
        sizes = ", ".join(f"{n} x {rows}" for n, rows in zip(self._lengths, self._rows, strict=True))
        return [
            f"buckets  length x rows: {sizes}; {self.steps:,} batches an epoch, {1 - self._real / total:.0%} padding"
        ]

    def on_device(self, mesh: Mesh, start: int, stop: int) -> Iterator[dict[str, jax.Array]]:
        """Batches start..stop-1 as global arrays; see `pipeline.on_device`."""
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
    if seed is not None:
        pipeline.check_seed(seed)
    if (longest := int(lengths.max())) > bounds[-1]:
        raise UserError(
            f"example {int(lengths.argmax())} has {longest:,} tokens, more than the {bounds[-1]:,} of the longest "
            "bucket; cut it, leave it out, or raise the length"
        )
