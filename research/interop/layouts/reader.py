"""Weights of torchvision and timm in, from one safetensors file.

The names in a file tell which layout it has; what they mean is in the tables beside this file. Neither PyTorch nor the libraries
are needed.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data import user_files
from research.interop import positions
from research.interop.hf import files, mapping
from research.interop.hf.paths import Arrays
from research.interop.layouts import convnext, efficientnet, inception, resnet, vit
from research.interop.layouts.layout import Layout, Place, Table
from research.models.vision.vit import ViT
from research.util.errors import UserError
from research.util.run_files import shown

LAYOUTS: tuple[Layout, ...] = (
    resnet.RESNET, inception.GOOGLENET, inception.INCEPTION_V3, vit.TORCHVISION, vit.TIMM, convnext.TORCHVISION, convnext.TIMM,
    efficientnet.TIMM, efficientnet.GOOGLE_NAMES,
)  # fmt: skip
SKIPPED = r"(^|\.)num_batches_tracked$"  # torch's count of the batches that running statistics have seen


class Found(NamedTuple):
    """A file's arrays for a part of a model.

    place   the path of that part's parameters in the model
    arrays  by our paths, `params/...` and `batch_stats/...`
    theirs  {our path: their name and shape}, or their name alone where the file lacks it
    grid    rows and columns of the patches that have a position, a square: timm's and torchvision's pictures are
    """

    layout: Layout
    place: str
    arrays: Arrays
    theirs: dict[str, str]
    grid: positions.Grid | None


def file(path: Path) -> Path | None:
    """The safetensors file that a path names, or the one of a folder that is not transformers'; None: there is none."""
    if path.is_file():
        found = [path] if path.suffix == ".safetensors" else []
    else:
        found = list(path.glob("*.safetensors")) if files.is_folder(path) else []
    return found[0] if len(found) == 1 and "model_type" not in _config(found[0].parent) else None


def _config(folder: Path) -> dict[str, Any]:
    """The config.json beside the weights, transformers' or timm's; {}: none, or no object."""
    try:
        found = user_files.json_value(folder / files.CONFIG)
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def read(file: Path, module: Any) -> Found:
    """The arrays of a file for a module, or for the part of it that is of the layout's kind.

    UserError, one line, for a layout that we have not, a module that computes something else, a tensor without a place, and
    a file that is damaged.
    """
    held = files.Tensors([file])
    layout = _layout(file, held.names)
    if (found := mapping.find(module, layout.module)) is None:
        here = "has none to compare with" if module is None else f"is a {type(module).__name__}"
        raise UserError(f"{file} holds a {layout.module.__name__} of {layout.library}; this experiment's model {here}")
    part, place = found
    _check(file, layout, part, {name: held.shape(name) for name in held.names})
    table = layout.table(part)
    _check_names(file, layout, held.names, table)
    arrays = {table[name].ours: _read(file, held, name, table[name], part) for name in held.names if name in table}
    theirs = {one.ours: name for name, one in table.items()}
    theirs |= {table[name].ours: f"{name} {list(held.shape(name))}" for name in held.names if name in table}
    return Found(layout, place, arrays, theirs, _grid(part, arrays))


def _grid(module: Any, arrays: Arrays) -> positions.Grid | None:
    table = arrays.get("params/position")
    if not isinstance(module, ViT) or table is None or table.ndim != 2:
        return None
    patches = max(len(table) - (module.pool == "token"), 0)
    side = math.isqrt(patches)
    return (side, side) if side * side == patches else None


def _layout(file: Path, names: list[str]) -> Layout:
    layout = next((one for one in LAYOUTS if one.sign in names), None)
    if layout is None:
        known = ", ".join(dict.fromkeys(one.module.__name__ for one in LAYOUTS))
        first = f"{shown(names[0])}, ..." if names else "nothing"
        raise UserError(
            f"{file} has {first}: the names of no layout that is read ({known} of torchvision or timm); "
            f"weights of transformers have a {files.CONFIG} beside them"
        )
    model = _config(file.parent).get("architecture")
    if isinstance(model, str) and not re.fullmatch(layout.models, model.partition(".")[0]):
        raise UserError(
            f"{file.parent / files.CONFIG} names {shown(model)}, whose tensors have the names of a {layout.module.__name__}; "
            "it computes something else, and is not read"
        )
    return layout


def _check(file: Path, layout: Layout, module: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """UserError where the module has an attribute with which it computes something else."""
    try:
        wanted = layout.wanted(shapes)
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{file} has names of a {layout.module.__name__} of {layout.library}, and not its shapes"
        ) from None
    for name, value in wanted.items():
        here = getattr(module, name)
        if (tuple(here) if isinstance(here, list) else here) != value:
            raise UserError(
                f"{file} is a {layout.module.__name__} of {layout.library} with {name} = {value!r}; "
                f"model.{name} here is {here!r}: set it to that"
            )


def _check_names(file: Path, layout: Layout, names: Iterable[str], table: Table) -> None:
    """UserError for a tensor that is not used, and would change what is computed."""
    for name in sorted(names):
        if name in table or re.search(SKIPPED, name):
            continue
        why = next((f": {why}" for pattern, why in layout.refused.items() if re.search(pattern, name)), "")
        raise UserError(f"{file}: {shown(name)[1:-1]} has no place in our {layout.module.__name__}{why}")


def _read(file: Path, held: files.Tensors, name: str, place: Place, module: Any) -> np.ndarray:
    x = held.array(name)
    try:
        return place.read(module, x)
    except (ValueError, IndexError, TypeError):  # of other axes
        raise UserError(f"{file}: {name} is {list(x.shape)}, which {place.ours} cannot be made of") from None
