"""How a TrainState is named in a checkpoint: names on disk never change, those of the code may."""

from typing import Any

import flax.struct

from research.core.state import TrainState

ON_DISK = {"model_state": "extra"}  # field of TrainState -> its name on disk, where they differ


class _Saved(flax.struct.PyTreeNode):
    step: Any
    params: Any
    opt: Any
    extra: Any
    ema: Any
    key: Any
    skipped: Any


def to_disk(tree: Any) -> Any:
    """A TrainState (of arrays, shapes or shardings) -> the same leaves under their names on disk; other trees unchanged."""
    if not isinstance(tree, TrainState):
        return tree
    return _Saved(**{ON_DISK.get(name, name): value for name, value in vars(tree).items()})


def from_disk(tree: Any) -> Any:
    """The inverse of `to_disk`."""
    if not isinstance(tree, _Saved):
        return tree
    names = {saved: name for name, saved in ON_DISK.items()}
    return TrainState(**{names.get(name, name): value for name, value in vars(tree).items()})
