"""The keys of a config's model group: the fields of a Linen module that have a default.

They are read from the module's source, since importing it would import Flax, which takes longer than the verbs that only read
configs may. A field without a default, such as the size of a vocabulary, is decided by the data and is no key.
"""

import ast
import contextlib
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.nn.from_config import choose


def fields(path: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """{field: default} of the class at `path`, its dotted name, for defaults of a plain type, but for those in `without`.

    >>> fields("research.models.vision.lenet.LeNet5")
    {'channels': (6, 16), 'hidden': (120, 84), 'pad': 2}
    """
    module, _, name = path.rpartition(".")
    return {key: value for key, value in _classes(module)[name].items() if key not in without}


def of_model(
    models: Mapping[str, str], changes: Mapping[str, Any], default: str, without: Sequence[str] = ()
) -> dict[str, Any]:
    """The defaults of a model group, {"name": ..., field: default}: of the model that a config's `changes` name, else `default`.

    `models` is {model.name: dotted name of its class}. Raises UserError if it lacks the name.
    """
    name = changes.get("model", {}).get("name", default)
    return {"name": name, **fields(choose(models, name), without)}


@functools.cache
def _classes(module: str) -> dict[str, dict[str, Any]]:
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
    out: dict[str, dict[str, Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            inherited = [out.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
            out[node.name] = {k: v for each in inherited for k, v in each.items()} | _defaults(node)
    return out


def _defaults(node: ast.ClassDef) -> dict[str, Any]:
    out = {}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            with contextlib.suppress(ValueError):  # of no plain type: a function, an initializer
                if "ClassVar" not in ast.unparse(line.annotation):
                    out[line.target.id] = ast.literal_eval(line.value)
    return out
