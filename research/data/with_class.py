"""Values with a class: the inputs of a model that is conditional on it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.core.experiment import Codec
from research.data import codecs
from research.util.errors import UserError, nearest


@codecs.register("with_class")
@dataclasses.dataclass(frozen=True)
class WithClass(Codec):
    """(a value of `codec`, the name of a class) <-> what `codec` decodes; "label" i32[B] is among the inputs."""

    codec: Any
    classes: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, tuple]:
        return {**self.codec.inputs, "label": (("b",), "int32")}

    @property
    def constraints(self) -> Sequence[str]:
        return self.codec.constraints

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """(value, name of a class) -> one row of inputs. Raises UserError if it is no such pair."""
        if not (isinstance(value, tuple) and len(value) == 2):
            raise UserError("a conditional model takes (value, name of a class)")
        value, name = value
        return {**self.codec.encode(value), "label": np.array([class_number(self, name)], np.int32)}

    def decode(self, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.codec.decode(outputs)

    @property
    def draw(self) -> Callable[[Any, Mapping], Any] | None:  # type: ignore[override]  # nobody writes to it
        draw = self.codec.draw
        return draw and (lambda value, decoded: draw(value[0], decoded))

    def read(self, file: Path) -> tuple[Any, str]:
        """What `codec` reads, and the name of the file's folder, which is the class."""
        return self.codec.read(file), file.resolve().parent.name


def class_number(codec: Codec, name: str) -> int:
    """The number of a class that a model is asked for by name. Raises UserError if there is none, or the model reads no class."""
    if not isinstance(codec, WithClass):
        raise UserError("the model reads no class: train one with model.conditional=True")
    if name not in codec.classes:
        raise UserError(f"no class {str(name)!r}{nearest(str(name), codec.classes)}")
    return codec.classes.index(name)
