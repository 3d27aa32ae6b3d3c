"""Export by `jax.export`: one file for cpu, cuda and tpu, parameters within, batch size open."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from research.core.experiment import Predictor
from research.util.errors import UserError

PLATFORMS = ("cpu", "cuda", "tpu")
_BOUND = re.compile(r"\w+ <= (\d+)")


def specs(predictor: Predictor) -> dict[str, jax.ShapeDtypeStruct]:
    """The predictor's input specs with their symbolic sizes."""
    names = sorted({d for shape, _ in predictor.inputs.values() for d in shape if isinstance(d, str)})
    sizes = jax.export.symbolic_shape(",".join(names), constraints=predictor.constraints)
    symbols = dict(zip(names, sizes, strict=True))
    return {
        k: jax.ShapeDtypeStruct(tuple(symbols.get(d, d) for d in shape), np.dtype(dtype))
        for k, (shape, dtype) in predictor.inputs.items()
    }


def export(predictor: Predictor, variables: Mapping) -> bytes:
    """The prediction function with its variables as constants, serialised StableHLO."""
    constants = jax.device_get(variables)
    fn = jax.jit(lambda inputs: dict(predictor.fn(constants, inputs)))
    return bytes(jax.export.export(fn, platforms=PLATFORMS)(specs(predictor)).serialize())


def load(path: str | Path) -> Callable[[Mapping[str, Any]], dict]:
    """A file that `export` wrote -> `inputs -> outputs`. StableHLO is data: loading runs no code of the file's author.

    Raises UserError if the file cannot be read, or is not the one that the .json beside it describes by its SHA-256.
    """
    path = Path(path)
    try:
        blob, about = path.read_bytes(), path.with_suffix(".json")
        recorded = json.loads(about.read_text(encoding="utf-8")).get("sha256") if about.is_file() else None
        if recorded is not None and recorded != hashlib.sha256(blob).hexdigest():
            raise UserError(f"{path} is damaged: its SHA-256 is not the one that {about.name} says; export it again")
        return jax.export.deserialize(bytearray(blob)).call
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from None
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{path} is no export of this project: {str(e).splitlines()[0]}") from None


def example(predictor: Predictor, batch: int, size: int, key: jax.Array) -> dict[str, jax.Array]:
    """Random inputs: `batch` rows, other symbolic sizes `size`, or what a constraint allows at most; integers are 0 or 1."""
    bounds = [_BOUND.fullmatch(constraint) for constraint in predictor.constraints]
    size = min([size, *(int(bound[1]) for bound in bounds if bound)])
    out = {}
    for i, (name, (shape, dtype)) in enumerate(predictor.inputs.items()):
        real = tuple(batch if d == "b" else size if isinstance(d, str) else d for d in shape)
        values = jax.random.uniform(jax.random.fold_in(key, i), real)
        out[name] = (values * 2).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)
    return out
