"""What the config.json of a model of images says of its pictures and classes."""

from collections.abc import Mapping
from typing import Any

from research.util.errors import UserError
from research.util.run_files import shown


def sides(config: Mapping[str, Any], default: int = 224) -> tuple[int, int]:
    """`image_size`: one number, or rows and columns."""
    value = config.get("image_size", default)
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or any(type(n) is not int or n < 1 for n in pair):
        raise UserError(f"image_size = {shown(value)}: wanted one or two whole numbers, at least 1")
    return pair[0], pair[1]


def classes(config: Mapping[str, Any]) -> int:
    """The number of labels; transformers has two where none are named."""
    named = config.get("id2label")
    if named is not None and not isinstance(named, dict):
        raise UserError(f"id2label = {shown(named)}: wanted names by number")
    return len(named) if named else config.get("num_labels", 2)


def labels(count: int) -> dict[str, Any]:
    """`id2label` and `label2id` of so many classes."""
    names = [f"LABEL_{i}" for i in range(count)]
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
