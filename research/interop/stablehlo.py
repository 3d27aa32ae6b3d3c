"""Export by `jax.export`: one program for cpu, cuda and tpu. Its parameters are arguments, and sizes such as the batch's open."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import numpy as np
from flax import traverse_util

from research.core.experiment import Codec, Predictor
from research.util.errors import UserError

PLATFORMS = ("cpu", "cuda", "tpu")
_BOUND = re.compile(r"(\w+) <= (\d+)")


def flat(variables: Mapping) -> dict[str, Any]:
    """{"params": {"Dense_0": {"kernel": x}}} -> {"params/Dense_0/kernel": x}."""
    return traverse_util.flatten_dict(variables, sep="/")


def bounds(codec: Codec) -> dict[str, int]:
    """The largest value of each symbolic size that a codec's constraints bound: {"t": 64} of "t <= 64"."""
    found = (_BOUND.fullmatch(constraint) for constraint in codec.constraints)
    return {bound[1]: int(bound[2]) for bound in found if bound}


def specs(codec: Codec) -> dict[str, jax.ShapeDtypeStruct]:
    """A codec's inputs with their symbolic sizes."""
    names = sorted({d for shape, _ in codec.inputs.values() for d in shape if isinstance(d, str)})
    sizes = jax.export.symbolic_shape(",".join(names), constraints=codec.constraints)
    symbols = dict(zip(names, sizes, strict=True))
    return {
        k: jax.ShapeDtypeStruct(tuple(symbols.get(d, d) for d in shape), np.dtype(dtype))
        for k, (shape, dtype) in codec.inputs.items()
    }


def largest_row(codec: Codec) -> dict[str, jax.ShapeDtypeStruct]:
    """A codec's inputs with one row, open sizes the largest. Raises UserError for a size without a bound."""
    sizes = {"b": 1, **bounds(codec)}
    shapes = {name: tuple(sizes.get(d, d) for d in shape) for name, (shape, _) in codec.inputs.items()}
    if unbounded := [d for shape in shapes.values() for d in shape if isinstance(d, str)]:
        raise UserError(f"LiteRT cannot hold this model: the size {unbounded[0]} has no bound")
    return {name: jax.ShapeDtypeStruct(shapes[name], np.dtype(dtype)) for name, (_, dtype) in codec.inputs.items()}


def export(predictor: Predictor, variables: Mapping) -> jax.export.Exported:
    """The prediction function of (`flat` variables, inputs); `serialize` makes bytes of it."""
    parameters = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat(variables).items()}

    def fn(parameters: Mapping, inputs: Mapping) -> dict:
        return dict(predictor.fn(traverse_util.unflatten_dict(parameters, sep="/"), inputs))

    return jax.export.export(jax.jit(fn), platforms=PLATFORMS)(parameters, specs(predictor.codec))


def example(codec: Codec, batch: int, size: int, key: jax.Array) -> dict[str, jax.Array]:
    """Random inputs: `batch` rows, other symbolic sizes `size`, or what a constraint allows at most; integers are 0 or 1."""
    size = min([size, *bounds(codec).values()])
    out = {}
    for i, (name, (shape, dtype)) in enumerate(codec.inputs.items()):
        real = tuple(batch if d == "b" else size if isinstance(d, str) else d for d in shape)
        values = jax.random.uniform(jax.random.fold_in(key, i), real)
        out[name] = (values * 2).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)
    return out
