"""Codecs as JSON: what a model's predictions need of a data set, without the data.

A codec keeps its constructor's arguments as attributes of the same names. They are JSON values, tuples of them, tokenizers and
objects of other registered classes. Reading one back imports nothing and calls nothing but those constructors.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from research.data import tokenizers
from research.util.errors import UserError, nearest

KIND, TOKENIZER = "$codec", "$tokenizer"  # the keys that mark an object in JSON; no argument has such a name
_CLASSES: dict[str, type] = {}
Class = TypeVar("Class", bound=type)
_PLAIN = (str, int, float, bool, type(None))


def register(name: str) -> Callable[[Class], Class]:
    """A class decorator: objects of the class are stored under `name`."""

    def add(cls: Class) -> Class:
        _CLASSES[name] = cls
        cls.codec_name = name  # type: ignore[attr-defined]
        return cls

    return add


def to_json(value: Any) -> Any:
    """A codec, or an argument of one -> a JSON value. Raises TypeError for what cannot be stored."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if _CLASSES.get(name := getattr(value, "codec_name", "")) is type(value):
        return {KIND: name} | {key: to_json(getattr(value, key)) for key in _arguments(type(value))}
    if hasattr(value, "to_json"):
        return {TOKENIZER: json.loads(value.to_json())}
    raise TypeError(f"{type(value).__name__} cannot be stored: it is no registered codec, tokenizer or JSON value")


def from_json(value: Any) -> Any:
    """What `to_json` returned -> the codec. Raises UserError if it is none."""
    try:
        return _from_json(value)
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"this is no codec of this version: {error}") from None


def _from_json(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list):
        return tuple(map(_from_json, value))
    if TOKENIZER in value:
        return tokenizers.from_json(json.dumps(value[TOKENIZER]))
    name = value[KIND]
    if name not in _CLASSES:
        raise UserError(f"there is no codec {name!r}{nearest(str(name), _CLASSES)}")
    arguments: Mapping[str, Any] = {key: _from_json(each) for key, each in value.items() if key != KIND}
    return _CLASSES[name](**arguments)


def _arguments(cls: type) -> list[str]:
    return list(inspect.signature(cls).parameters)
