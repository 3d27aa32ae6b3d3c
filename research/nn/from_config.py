"""Linen modules from groups of a config."""

from collections.abc import Mapping
from typing import Any, TypeVar

from research.util.errors import UserError, nearest

T = TypeVar("T")


def choose(known: Mapping[str, T], name: str, key: str = "model.name") -> T:
    """`known[name]`. Raises UserError, with the config key and the nearest name, if there is none."""
    if name not in known:
        raise UserError(f"{key} = {name!r}{nearest(name, known)}")
    return known[name]


def from_config(cls: Any, group: Mapping, **fixed: Any) -> Any:
    """`cls(**group, **fixed)`, where None is the attribute's default.

    Raises UserError for a key that is no attribute, and for a rate of dropout that is none.
    """
    attributes = {k: v for k, v in group.items() if v is not None and k != "name"}
    fields = [f for f in cls.__dataclass_fields__ if f not in ("parent", "name")]
    for key, value in attributes.items():
        if key not in fields:
            raise UserError(f"model.{key} = {value!r} is no attribute of {cls.__name__}{nearest(key, fields)}")
        if key.endswith("dropout") and not (isinstance(value, int | float) and 0 <= value < 1):
            raise UserError(f"model.{key} = {value!r}: from 0 to below 1")
    return cls(**attributes, **fixed)
