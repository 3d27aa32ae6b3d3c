"""Hugging Face weights in and out, by safetensors: GPT-2, Llama, BERT, Marian, ViT and ConvNeXt.

`read` takes a folder that transformers' `save_pretrained` wrote, `write` makes one that its `from_pretrained` reads; neither
needs transformers or PyTorch. What lies where is in the tables of research/interop/hf, by the names on disk. Parameters are
f32 here and are written so: what is written and read again is equal to the bit.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data import tokenizers
from research.interop.hf import bert, convnext, files, gpt, marian, paths, vit
from research.interop.hf import tokenizer as tokenizer_files
from research.interop.hf.mapping import Architecture, Tensor
from research.interop.hf.paths import Arrays
from research.util.errors import UserError, nearest
from research.util.files import write_errors

ARCHITECTURES: dict[str, Architecture] = {
    one.name: one for one in (bert.BERT, gpt.GPT2, gpt.LLAMA, marian.MARIAN, vit.VIT, convnext.CONVNEXT)
}


class Source(NamedTuple):
    """What a folder holds, in our terms, by our paths below `params/`.

    attributes  the module's: num_layers, num_heads, ...
    arrays      f32; layers one by one, h_0, h_1, ...
    theirs      {our path: their name and shape}, of what is missing too
    missing     paths of heads that the file lacks
    left        their names of heads for which we have no place
    config      config.json
    """

    where: str
    architecture: Architecture
    attributes: dict[str, Any]
    arrays: Arrays
    theirs: dict[str, str]
    missing: list[str]
    left: list[str]
    config: dict[str, Any]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches of a ViT's pictures; None: it is none."""
        if self.architecture is not vit.VIT:
            return None
        rows, columns, _ = self.attributes["image_shape"]
        return rows // self.attributes["patch"], columns // self.attributes["patch"]

    def placed(self, module: Any, into: str = "") -> tuple[Arrays, dict[str, str]]:
        """`arrays` and `theirs` by the paths of `module`; UserError where that computes something else from them.

        `into` is the path that is the body's, where it is not to be found out.
        """
        one, wanted = self.architecture, self.architecture.module.__name__
        if (found := one.find(module)) is None:
            here = "has none to compare with" if module is None else f"is a {type(module).__name__}"
            raise UserError(f"{self.where} holds a {one.name}, a {wanted} here; this experiment's model {here}")
        part, place = found
        here = one.resolve(part)
        for name in [*one.keys, *(self.attributes.keys() - one.keys.keys())]:
            if name not in one.loose and here[name] != self.attributes[name]:
                theirs = f" ({one.keys[name][0]} in its {files.CONFIG})" if name in one.keys else ""
                raise UserError(
                    f"{self.where} is a {one.name} with {name} = {self.attributes[name]!r}{theirs}; "
                    f"model.{name} here is {here[name]!r}: set it to that"
                )
        move = {name: paths.moved(name, one.root, into or place) for name in self.theirs}
        return {move[k]: x for k, x in self.arrays.items()}, {move[k]: x for k, x in self.theirs.items()}


def read(folder: str | Path) -> Source:
    """A folder's parameters, each checked against its config.json.

    UserError, one line, for an architecture or a feature that we have not, a tensor that is missing, of another shape or for
    which there is no place, and a file that is damaged or a pickle.
    """
    held = files.Folder(folder)
    name = held.config["model_type"]
    if name not in ARCHITECTURES:
        raise UserError(f"{folder} holds a {name!r}, which is not read{nearest(name, ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    try:
        attributes = architecture.attributes(held.config)
        architecture.check_depth(attributes, len(held.names))
        architecture.module(**attributes)  # it looks at its attributes
    except UserError as e:
        raise UserError(f"{folder}/{files.CONFIG}: {e}") from None
    return _Reader(held, architecture).source(attributes)


class _Reader:
    """A folder's tensors by the names of a table, which are those of a model with its heads."""

    def __init__(self, held: files.Folder, architecture: Architecture):
        self._held, self._architecture = held, architecture
        prefix = architecture.prefix
        bare = not any(name.startswith(prefix) for name in held.names)
        self._stored = {f"{prefix}{name}" if bare and self._inner(name) else name: name for name in held.names}

    def _inner(self, name: str) -> bool:
        """Whether a name may be one of the body's, without its prefix."""
        heads = {name for row in self._architecture.table for name in row.theirs.split()} | {*self._architecture.copies}
        return name not in heads and not re.search(self._architecture.others, name)

    def _array(self, name: str) -> np.ndarray:
        return self._held.array(self._stored[name])

    def source(self, attributes: dict[str, Any]) -> Source:
        architecture, where = self._architecture, str(self._held.path)
        attributes = attributes | dict.fromkeys(self._left_out(attributes), False)
        table = [one for one in architecture.tensors(attributes) if not one.zeros]
        absent = {one.ours: [name for name in one.theirs if name not in self._stored] for one in table}
        missing = [path for path, names in absent.items() if names]
        if needed := [path for path in missing if path.split("/")[0] not in architecture.optional]:
            raise UserError(f"{where} lacks {absent[needed[0]][0]}, {needed[0]} here{_more(needed)}")
        if wrong := [line for one in table if one.ours not in missing for line in self._misfits(one)]:
            raise UserError(f"{where}: {wrong[0]}{_more(wrong)}")
        left = self._others({name for one in architecture.tensors(attributes) for name in one.theirs})
        sizes = architecture.sizes(attributes)
        arrays = {
            one.ours: one.form.read(sizes, *map(self._array, one.theirs)) for one in table if not absent[one.ours]
        }
        theirs = {one.ours: _named(one) for one in table}
        return Source(where, architecture, attributes, arrays, theirs, missing, left, self._held.config)

    def _left_out(self, attributes: Mapping[str, Any]) -> Iterator[str]:
        """Attributes without which `write` wrote zeros, where these are zeros still."""
        said = self._held.config.get("almanac") or {}
        for attribute in self._architecture.zeroed:
            table = self._architecture.tensors({**attributes, attribute: False})
            names = [name for one in table if one.zeros for name in one.theirs if name in self._stored]
            if said.get(attribute) is False and not any(self._array(name).any() for name in names):
                yield attribute

    def _misfits(self, one: Tensor) -> Iterator[str]:
        for name, shape in zip(one.theirs, one.shapes, strict=True):
            if (found := self._held.shape(self._stored[name])) != shape:
                yield f"{name} is {list(found)}, and {list(shape)} by {files.CONFIG} ({one.ours} here)"

    def _others(self, known: set[str]) -> list[str]:
        """Names of heads of other tasks; UserError for anything else beside the table that could change what is computed."""
        architecture, left = self._architecture, []
        for name in sorted(self._stored.keys() - known):
            if re.search(architecture.skipped, name):
                continue
            if same := next((other for other in architecture.copies.get(name, "").split() if other in known), None):
                if not np.array_equal(self._array(name), self._array(same)):
                    raise UserError(f"{self._held.path}: {name} is not {same}, as it should be by {files.CONFIG}")
            elif re.search(architecture.others, name):
                left.append(name)
            else:
                raise UserError(f"{self._held.path}: {name} has no place in our {architecture.module.__name__}")
        return left


def decoder_start(config: Mapping[str, Any]) -> int | None:
    """The id of the token that the decoder of an encoder-decoder begins after, by its config.json; None if that names none."""
    keys = ("decoder_start_token_id", "pad_token_id")
    return next((config[key] for key in keys if isinstance(config.get(key), int)), None)


def write(
    folder: str | Path,
    module: Any,
    params: Any,
    tokenizer: tokenizers.Tokenizer | None = None,
    start: int | None = None,
) -> str:
    """A module and its parameters (a tree) -> a folder that transformers loads, and the class there that does.

    With a tokenizer that can be said in a tokenizer.json (see `hf.tokenizer`), that is written, too. `start` is the id of the
    token that a decoder begins after, by default the tokenizer's `<bos>`, else its `<pad>`. UserError for what has no place in
    any of the architectures. The folder must be new; it appears when it is whole and has been read again.
    """
    architecture, place, config = _choose(module)
    part = getattr(module, place) if place else module
    arrays = {name: x.astype(np.float32) for name, x in paths.unstacked(paths.flat(params)).items()}
    tensors = _theirs(architecture, architecture.resolve(part), place, dict(arrays))
    tops = {
        one.ours.split("/")[0] for one in architecture.tensors(architecture.resolve(part)) if one.theirs[0] in tensors
    }
    name = next(name for name, needs in architecture.classes if tops.issuperset(needs))
    config = {"architectures": [name], **config, "dtype": "float32", **tokenizer_files.ids(tokenizer)}
    if config.get("is_encoder_decoder"):  # transformers wants a number, and its default is that of another vocabulary
        known = [i for i in (start, config["bos_token_id"], config["pad_token_id"]) if i is not None]
        config |= {"decoder_start_token_id": known[0]} if known else {}
    with new_folder(folder) as made:
        files.write(made, config, tensors)
        if tokenizer is not None and tokenizer_files.can_write(tokenizer):
            tokenizer_files.write(made, tokenizer, part.max_length)
        again, _ = read(made).placed(module)
        if again.keys() != arrays.keys() or not all(np.array_equal(arrays[k], x) for k, x in again.items()):
            raise UserError(f"{folder}: what was written is not what was read again; it is not kept")
    return name


def _theirs(architecture: Architecture, attributes: Mapping[str, Any], place: str, arrays: Arrays) -> Arrays:
    """Our arrays by path, which are used up -> theirs by name."""
    sizes = architecture.sizes(attributes)
    tensors: Arrays = {}
    for one in architecture.tensors(attributes):
        path = paths.moved(one.ours, architecture.root, place)
        if one.zeros:
            parts: Sequence[np.ndarray] = [np.zeros(shape, np.float32) for shape in one.shapes]
        elif path in arrays:
            parts = one.form.write(sizes, arrays.pop(path))
        elif one.ours.split("/")[0] in architecture.optional:
            continue
        else:
            raise UserError(f"the parameters lack {path}, of which a {architecture.name} has {_named(one)}")
        tensors |= dict(zip(one.theirs, parts, strict=True))
    if arrays:
        raise UserError(f"{min(arrays)} has no place in a {architecture.name}{_more(list(arrays))}")
    return tensors


def _choose(module: Any) -> tuple[Architecture, str, dict[str, Any]]:
    """-> the architecture that has a place for all of the module, where in the module it is, and its config.json."""
    reasons = []
    for architecture in ARCHITECTURES.values():
        if found := architecture.find(module):
            try:
                return architecture, found[1], architecture.config(found[0])
            except UserError as e:
                reasons.append(str(e))
    what = "several networks" if module is None else f"a {type(module).__name__}"
    why = "; ".join(reasons) or f"the experiment trains {what}"
    raise UserError(f"none of {', '.join(ARCHITECTURES)} can hold this model: {why}")


@contextlib.contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A folder to write into, which has its name when all went well, and else is gone. UserError if there is one already."""
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give a new folder")
    part = folder.with_name(f".{folder.name}.part")
    above = [path for path in folder.parents if not path.exists()]  # from the nearest up
    with write_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    try:
        yield part
        with write_errors(folder):
            part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.suppress(OSError):  # by now it may not be empty
            for path in above:
                path.rmdir()
        raise


def _named(one: Tensor) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in zip(one.theirs, one.shapes, strict=True))


def _more(problems: list) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
