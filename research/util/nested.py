"""Nested values of configs and files: flattened, compared, read from words, and viewed with a count of what is read."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from research.util.errors import UserError, nearest


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}. Raises TypeError if `tree` is none."""
    if not isinstance(tree, (Mapping, ConfigDict)):
        raise TypeError(f"wanted a group of values, not {tree!r}")
    out: dict[str, Any] = {}
    for key, value in tree.items():
        group = isinstance(value, (dict, ConfigDict, Counted))
        out |= flatten(value, f"{prefix}{key}.") if group else {prefix + key: value}
    return out


def nest(key: str, value: Any) -> dict[str, Any]:
    """ "a.b", 1 -> {"a": {"b": 1}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def plain(tree: Any) -> Any:
    """ConfigDicts and views -> dicts, without counting reads."""
    if isinstance(tree, Counted):
        return tree.to_dict()
    return {k: plain(tree[k]) for k in tree} if isinstance(tree, (Mapping, ConfigDict)) else tree


def tuples(value: Any) -> Any:
    """Lists -> tuples, at every depth: what JSON makes lists of."""
    if isinstance(value, dict):
        return {k: tuples(v) for k, v in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def differences(old: Mapping, new: Mapping) -> list[str]:
    """Lines `key: old -> new` for two nested configs."""
    a, b = flatten(tuples(plain(old))), flatten(tuples(plain(new)))
    return [f"{k}: {a.get(k)!r} -> {b.get(k)!r}" for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k)]


def typed(text: str, like: Any) -> Any:
    """A word as a value of the type of `like` (None: as it looks); ValueError where it is none."""
    if isinstance(like, bool):
        known = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() not in known:
            raise ValueError
        return known[text.lower()]
    if isinstance(like, int):
        number = _literal(text)  # an int as it is, a seed of 19 digits too
        return number if type(number) is int else _whole(float(text.replace("_", "")))
    if isinstance(like, float):
        return float(text)
    if isinstance(like, str):
        return text
    value = tuples(_literal(text))
    if isinstance(like, (tuple, list)) and not isinstance(value, tuple | None):
        raise ValueError
    return value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        RecursionError,
        MemoryError,
    ):  # {[]: 1} is a TypeError, "((((..." the last two
        return text


def _whole(number: float) -> int:
    if number in (float("inf"), float("-inf")) or number != int(number):
        raise ValueError
    return int(number)


class Counted(Mapping):
    """Nested values that count their reads: attributes and items, groups as views. It cannot be changed."""

    __slots__ = ("_values", "_read", "_prefix")  # no other attribute can be set

    def __init__(self, values: Mapping, read: set[str] | None = None, prefix: str = ""):
        self._values, self._read, self._prefix = values, set() if read is None else read, prefix

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise UserError(f"there is no config key {self._prefix + key!r}{nearest(key, self._values)}")
        value = self._values[key]
        if isinstance(value, Mapping) or isinstance(value, ConfigDict):
            return type(self)(value, self._read, f"{self._prefix}{key}.")
        self._read.add(self._prefix + key)
        return value

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` where the key is absent or None."""
        value = self[key] if key in self else None
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_dict(self) -> dict:
        """Plain nested values; does not count as reading."""
        return plain(self._values)

    def mark(self, *keys: str) -> None:
        """Counts keys, and all keys of groups, as read: those that the tools read, not the experiment."""
        self._read.update(k for k in flatten(self.to_dict()) for key in keys if f"{k}.".startswith(f"{key}."))

    def unread(self) -> list[str]:
        """Keys with a value that nothing has read. None is the absence of a value."""
        flat = flatten(self.to_dict())
        return [k for k, v in flat.items() if v is not None and k not in self._read]
