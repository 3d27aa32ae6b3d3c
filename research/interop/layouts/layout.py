"""How a library of PyTorch models names the tensors of one of our modules: a table from its names to our paths."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from research.interop.hf import mapping

Shapes = Mapping[str, tuple[int, ...]]


def plain(_: Any, x: np.ndarray) -> np.ndarray:
    """torch's [out, in, rows, columns] and [out, in] -> [rows, columns, in, out] and [in, out]; others as they are."""
    return x.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(x.ndim, range(x.ndim)))


class Place(NamedTuple):
    """Our path among variables, and (module, their array) -> ours."""

    ours: str
    read: Callable[[Any, np.ndarray], np.ndarray] = plain


Table = dict[str, Place]


def layer(theirs: str, ours: str) -> Table:
    """The tensors of a linear layer, a convolution or a norm, as far as it has them. A layer of ours named norm is one."""
    weight = "scale" if "norm" in ours.rpartition("/")[2] else "kernel"
    return {
        f"{theirs}.weight": Place(f"params/{ours}/{weight}"),
        f"{theirs}.bias": Place(f"params/{ours}/bias"),
        f"{theirs}.running_mean": Place(f"batch_stats/{ours}/mean"),
        f"{theirs}.running_var": Place(f"batch_stats/{ours}/var"),
    }


def layers(names: Mapping[str, str]) -> Table:
    """{their layer: ours} -> the tensors of all."""
    return {name: place for theirs, ours in names.items() for name, place in layer(theirs, ours).items()}


def one_row(_: Any, x: np.ndarray) -> np.ndarray:
    """[1, T, D] -> [T, D]."""
    return mapping.ONE_ROW.read({}, x)


def joined(model: Any, x: np.ndarray) -> np.ndarray:
    """Queries, keys and values one below the other, [3 D, D] or [3 D] -> our columns: see `Attention`."""
    sizes = {"N": model.num_heads, "K": len(x) // 3 // model.num_heads}
    return (mapping.JOINED_TRANSPOSED if x.ndim == 2 else mapping.JOINED).read(sizes, x)


def count(shapes: Shapes, pattern: str) -> int:
    """How many numbers names have in the place of the group of a pattern."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of one library for one of our modules.

    sign     a name that only such files have
    table    module -> {their name: place}
    wanted   their shapes by name -> the attributes that our module must have to compute the same
    refused  {pattern of their names: why we have no place for it}
    models   pattern of the architectures, as timm's config.json names them, that compute what our module does
    """

    library: str
    module: type
    sign: str
    table: Callable[[Any], Table]
    wanted: Callable[[Shapes], dict[str, Any]] = lambda shapes: {}
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    models: str = ".*"
