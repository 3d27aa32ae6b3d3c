"""A predictor compiled before the first request, for batches of 1, 2, 4, ... rows and for open lengths of 16, 32, 64, ..."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from research.core.experiment import Predictor
from research.interop import stablehlo
from research.util.errors import UserError

Arrays = Mapping[str, np.ndarray]
Specs = Mapping[str, tuple[tuple, str]]
SHORTEST, LONGEST = 16, 512  # lengths that are compiled for, where the constraints do not say less
TOLERANCE = 1e-4  # of a float output, absolute and relative: sums over other lengths differ in the last bits


def powers(most: int, least: int = 1) -> list[int]:
    """The powers of two from `least` on that are below `most`, and `most`.

    >>> powers(8), powers(50, least=16)
    ([1, 2, 4, 8], [16, 32, 50])
    """
    return [*(1 << k for k in range(31) if least <= 1 << k < most), most]


class Programs:
    """A predictor's `inputs -> outputs`, numpy in and out, padded to shapes that are compiled.

    A row's open lengths are padded with zeros if the outputs at its own places stay what they were, which is tried when the
    programs are compiled; otherwise (`pads` is False) every length gets a program when it first comes.
    """

    def __init__(self, predictor: Predictor, variables: Mapping, max_batch: int = 32):
        """Raises UserError unless 1 <= max_batch."""
        if max_batch < 1:
            raise UserError(f"max_batch={max_batch}: want at least 1 row")
        self.specs, self.max_batch = predictor.codec.inputs, max_batch
        self._fn = partial(jax.jit(predictor.fn), variables)
        names = {d for shape, _ in self.specs.values() for d in shape if isinstance(d, str)} - {"b"}
        bounds = stablehlo.bounds(predictor.codec)
        self.bounds = {name: bounds.get(name, LONGEST) for name in sorted(names)}
        # One open length is padded. No family has two; each pair of lengths would then need programs of its own.
        self._open = names.pop() if len(names) == 1 else None
        self.outputs = self._output_specs()
        self.pads = self._open is not None and self._padding_changes_nothing()

    @property
    def lengths(self) -> list[int]:
        """Of the open size that is padded, those with programs."""
        return powers(self.bounds[self._open], SHORTEST) if self.pads else []

    def compile(self) -> int:
        """Compiles every shape, and returns their number: 0 if a length is open and cannot be padded."""
        if self.bounds and not self.pads:
            return 0
        shapes = [(rows, length) for rows in powers(self.max_batch) for length in self.lengths or [0]]
        for rows, length in shapes:
            self._run(_example(self.specs, rows, {self._open: length}))
        return len(shapes)

    def check(self, inputs: Arrays) -> int:
        """The number of rows. Raises UserError, which names the input, for a wrong name, shape, dtype or value."""
        if missing := sorted(self.specs.keys() - inputs.keys()):
            raise UserError(f"input {missing[0]!r} is missing")
        if unknown := sorted(inputs.keys() - self.specs.keys()):
            raise UserError(f"there is no input {unknown[0]!r}; the inputs are {', '.join(self.specs)}")
        sizes: dict[str, int] = {}
        for name, (shape, dtype) in self.specs.items():
            _check_array(name, inputs[name], shape, dtype, sizes, self.bounds)
        if not 1 <= sizes["b"] <= self.max_batch:
            raise UserError(f"{sizes['b']} rows: want 1 to {self.max_batch}")
        return sizes["b"]

    def group(self, inputs: Arrays) -> tuple:
        """What rows must have in common to share a batch: their shapes once they are padded."""
        return tuple(tuple(self._padded_sizes(name, x)[1:]) for name, x in sorted(inputs.items()))

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Rows of one group -> outputs of as many rows, and of their own length."""
        rows = len(next(iter(inputs.values())))
        batch = next(n for n in powers(self.max_batch) if n >= rows)
        padded = {}
        for name, x in inputs.items():
            sizes = [batch, *self._padded_sizes(name, x)[1:]]
            padded[name] = np.pad(x, [(0, size - n) for size, n in zip(sizes, x.shape, strict=True)])
        return {name: y[:rows] for name, y in self._run(padded).items()}

    def cut(self, outputs: Arrays, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of `inputs` without the places that padding added."""
        if not self.pads:
            return dict(outputs)
        length = self._length(inputs)
        own = lambda shape: tuple(slice(length if d == self._open else None) for d in shape)  # noqa: E731
        return {name: y[own(self.outputs[name][0])] for name, y in outputs.items()}

    def _run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return jax.device_get(dict(self._fn(inputs)))

    def _length(self, inputs: Arrays) -> int:
        name, axis = next((k, s.index(self._open)) for k, (s, _) in self.specs.items() if self._open in s)
        return inputs[name].shape[axis]

    def _padded_sizes(self, name: str, x: np.ndarray) -> list[int]:
        if not self.pads:
            return list(x.shape)
        fits = lambda n: next(size for size in self.lengths if size >= n)  # noqa: E731
        return [fits(n) if d == self._open else n for d, n in zip(self.specs[name][0], x.shape, strict=True)]

    def _output_specs(self) -> Specs:
        """The outputs as `specs` has the inputs: a size that differs with the batch or the length is open."""
        most = self.bounds.get(self._open, 1)
        one, rows, shorter = (
            jax.eval_shape(self._fn, _example(self.specs, b, dict.fromkeys(self.bounds, n)))
            for b, n in ((1, most), (2, most), (1, max(1, most // 2)))
        )

        def size(name: str, i: int) -> int | str:
            n = one[name].shape[i]
            return "b" if rows[name].shape[i] != n else self._open if shorter[name].shape[i] != n else n

        return {name: (tuple(size(name, i) for i in range(y.ndim)), str(y.dtype)) for name, y in one.items()}

    def _padding_changes_nothing(self) -> bool:
        """Tries a length between two powers of two on random rows, alone and padded."""
        long = min(4 * SHORTEST, self.bounds[self._open])
        short = max(1, long // 2 - 1)
        rows = _example(self.specs, min(2, self.max_batch), {self._open: short})
        self.pads = True
        try:
            padded = self.cut(self(rows), rows)
        finally:
            self.pads = False
        return all(
            np.allclose(y, padded[name], TOLERANCE, TOLERANCE, equal_nan=True) for name, y in self._run(rows).items()
        )


def _check_array(name: str, x: Any, shape: tuple, dtype: str, sizes: dict, bounds: Mapping[str, int]) -> None:
    """Raises UserError unless `x` has the shape and the dtype, and open sizes are within bounds and the same in all inputs."""
    expected = f"{dtype}[{', '.join(map(str, shape))}]"
    if x.dtype != np.dtype(dtype) or x.ndim != len(shape):
        raise UserError(f"input {name!r} is {x.dtype}{list(x.shape)}: want {expected}")
    for d, n in zip(shape, x.shape, strict=True):
        if n != (sizes.setdefault(d, n) if isinstance(d, str) else d):
            raise UserError(f"input {name!r} is {x.dtype}{list(x.shape)}: want {expected}")
        if not 1 <= n <= bounds.get(d, n):
            raise UserError(f"input {name!r} is {x.dtype}{list(x.shape)}: {d} is from 1 to {bounds.get(d, 'any size')}")
    if not np.isfinite(x).all():
        raise UserError(f"input {name!r} has a number that is not finite")


def _example(specs: Specs, rows: int, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Random rows of these open sizes: whole numbers 0 or 1, a "length" that is all of them, masks of ones."""
    rng, out = np.random.default_rng(0), {}
    length = max(sizes.values(), default=1)
    for name, (shape, dtype) in specs.items():
        real = [rows if d == "b" else sizes.get(d, d) for d in shape]
        if name == "length":
            values = np.full(real, length)
        elif name.endswith("mask"):
            values = np.ones(real)
        else:
            values = rng.integers(0, 2, real) if np.dtype(dtype).kind in "iu" else rng.random(real)
        out[name] = np.asarray(values, dtype)
    return out
