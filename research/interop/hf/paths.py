"""Arrays by path: flattened, with layers in one stack or one by one, and under other places."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from research.core.mesh import path_name

Arrays = dict[str, np.ndarray]
_LAYER = re.compile(r"(?:^|(?<=/))h_(\d+)(?=/)")
_STACK = re.compile(r"(?:^|(?<=/))h(?=/)")


def flat(tree: Any) -> Arrays:
    """A tree -> {path: array on the host}."""
    return {path_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def unstacked(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """`h/...` [L, ...], as a scanned model has it -> `h_0/...`, `h_1/...`; other paths as they are."""
    found: Arrays = {}
    for name, x in arrays.items():
        if _STACK.search(name):
            found |= {_STACK.sub(f"h_{i}", name, count=1): row for i, row in enumerate(x)}
        else:
            found[name] = x
    return found


def stacked(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The inverse of `unstacked`."""
    layers: dict[str, dict[int, np.ndarray]] = {}
    found: Arrays = {}
    for name, x in arrays.items():
        if layer := _LAYER.search(name):
            layers.setdefault(_LAYER.sub("h", name, count=1), {})[int(layer[1])] = x
        else:
            found[name] = x
    return found | {name: np.stack([rows[i] for i in sorted(rows)]) for name, rows in layers.items()}


def as_in(names: Iterable[str], arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays with their layers as a model with parameters of these names has them, stacked or one by one."""
    return stacked(arrays) if any(_STACK.search(name) for name in names) else unstacked(arrays)


def alike(name: str) -> str:
    """A path without the number of its layer: the same for `h/...` and `h_3/...`."""
    return _LAYER.sub("h", name, count=1)


def moved(name: str, root: str, place: str) -> str:
    """A path below `root` -> the same below `place` ("" is the top); another path stays."""
    if root and not name.startswith(f"{root}/"):
        return name
    inside = name.removeprefix(f"{root}/") if root else name
    return f"{place}/{inside}" if place else inside
