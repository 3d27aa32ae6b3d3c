"""Parameters from elsewhere into a fresh state: of one of our runs, of Hugging Face, torchvision or timm.

A config's `pretrained` group says which:

    weights   RUN[@best|@last|@STEP], a folder of Hugging Face's, a safetensors file of torchvision or timm, or a name in
              interop/published.py; None: the family's own initial values
    into      the path that the arrays go under: "encoder" makes tokens/embedding encoder/tokens/embedding
    fresh     a regular expression of paths here that keep their initial values, a new head's, say
    resize    of paths whose first axis may differ (an embedding's rows): the rows that both have are loaded

Every other array must be there, in its shape; the positions of a ViT are resampled for pictures of another size. What the source
has beside them is left out, and listed. Layers may be stacked (`scan`) on one side and not on the other. What no shape shows, the
number of heads above all, must be the same on both sides, and so must the vocabularies, unless `fresh` or `resize` names the
table of tokens: a run that reads tokens keeps its own as vocabulary.json.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from research.core import low_rank, upgrade
from research.core.mesh import path_name
from research.core.state import TrainState
from research.data.tokenizers import Tokenizer
from research.interop import huggingface, positions, published
from research.interop.hf import files, mapping, paths
from research.interop.hf.paths import Arrays
from research.interop.layouts import reader
from research.models.vision.vit import ViT
from research.run import checkpoint_files, checksum
from research.run.checkpoint_files import VOCABULARY
from research.util import run_files
from research.util.errors import UserError
from research.util.files import write_text

SHOWN = 6  # names of a list that the report says
OTHER_TABLES = ("position", "segment", "chars")  # their rows are no tokens
# Attributes that two models with arrays of the same shapes can differ in.
UNSEEN = (
    "num_heads", "positions", "rotary_base", "norm", "norm_eps", "pre_norm", "mlp", "scale_embedding",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What an experiment's parameters begin with: `pretrained(state, run)`, as `Experiment.load_pretrained` wants it.

    `model` is the Linen module whose parameters they are, or None where there are several networks; `tokenizers` say what the
    token ids that it reads mean.
    """

    model: Any
    weights: str
    into: str
    fresh: str
    resize: str
    tokenizers: tuple[Tokenizer, ...] = ()

    def __call__(self, state: TrainState, run: Any) -> TrainState:
        """The state with `weights` for its parameters, mutable collections and averages; `run.note` is told what was done.

        UserError for what does not fit: nothing of the state has then been used. The vocabulary is kept in `run.dir`.
        """
        vocabulary = json.dumps([json.loads(tokenizer.to_json()) for tokenizer in self.tokenizers])
        if self.weights:
            state = self._load(state, run.note, vocabulary)
        if self.tokenizers and run.writes:
            write_text(run.dir / VOCABULARY, vocabulary)
        return state

    def _load(self, state: TrainState, note: Callable[[str], None], vocabulary: str) -> TrainState:
        source = read(self.weights, self.model, self.into)
        variables = {"params": state.params, **state.model_state}
        leaves, tree = jax.tree_util.tree_flatten_with_path(variables)
        fitted = Fitted(source, [path_name(path) for path, _ in leaves], self.fresh, self.resize)
        variables = jax.tree.unflatten(tree, [fitted.one(path_name(path), leaf) for path, leaf in leaves])
        lines = fitted.report()
        if self.tokenizers and not fitted.names_tokens():
            _check_vocabulary(self.weights, vocabulary)
        for line in lines:
            note(line)
        params = variables.pop("params")
        averaged = jax.tree.map(jnp.copy, params) if state.ema else state.ema
        return state.replace(params=params, model_state=variables, ema=averaged)


def pretrained(cfg: Mapping[str, Any], model: Any, *tokenizers: Tokenizer) -> Pretrained:
    """The `pretrained` group of a config, the module (a part of it may be what the weights are of), and what its tokens mean."""
    weights, into, fresh, resize = (cfg[key] or "" for key in ("weights", "into", "fresh", "resize"))
    for key, value in {"into": into, "fresh": fresh, "resize": resize}.items():
        if value and not weights:
            raise UserError(f"pretrained.{key} = {value!r} needs pretrained.weights (or --init-from)")
    for key, pattern in {"fresh": fresh, "resize": resize}.items():
        try:
            re.compile(pattern)
        except re.error as e:
            raise UserError(f"pretrained.{key} = {pattern!r} is no regular expression: {e}") from None
    return Pretrained(model, weights, into, fresh, resize, tokenizers)


class Source(NamedTuple):
    """Arrays from elsewhere, by path: `params/...` and those of mutable collections.

    `words` say what they are of. `theirs`: {path: name and shape there}, where these are others. `left`: what was not read.
    `grids`: {path: rows and columns of the patches, there and here}, of positions to be resampled.
    """

    words: str
    arrays: Arrays
    theirs: Mapping[str, str] = {}
    left: tuple[str, ...] = ()
    grids: Mapping[str, tuple[positions.Grid, positions.Grid]] = {}


def placed(found: dict[str, Any], into: str) -> dict[str, Any]:
    """The same under the path `into` of their collections."""
    return {name.replace("/", f"/{into.strip('/')}/", 1) if into else name: x for name, x in found.items()}


class Fitted:
    """A source's arrays, fitted one by one to the leaves of another tree, which go by these names."""

    def __init__(self, source: Source, names: list[str], fresh: str, resize: str):
        self._source, self._found = source, paths.as_in(names, source.arrays)
        first = {paths.alike(name): words for name, words in reversed(list(source.theirs.items()))}
        self._theirs = {**first, **source.theirs}  # a stack goes by its first layer's
        self._patterns = {"fresh": fresh, "resize": resize}
        self._taken: list[str] = []
        self._resized: list[str] = []
        self._fresh: list[str] = []
        self._wrong: list[str] = []
        self._named: dict[str, list[str]] = {key: [] for key in self._patterns}

    def one(self, name: str, leaf: jax.Array) -> jax.Array:
        """The leaf of that name, with the loaded values, on the same devices."""
        here = _short(name)
        if self._is("fresh", here):
            self._fresh.append(here)
            return leaf
        value = self._found.get(name)
        if value is None:
            self._wrong.append(f"{here} {list(leaf.shape)} is not there{self._there(name)}")
            return leaf
        self._taken.append(name)
        if name in self._source.grids:
            before, after = self._source.grids[name]
            value = positions.resampled(value, before, after)
            there, to = (f"{rows} x {columns}" for rows, columns in (before, after))
            self._resized.append(f"{here} {there} -> {to} patches, bicubically")
        value, may_resize = value.astype(leaf.dtype), self._is("resize", here)
        if value.shape == leaf.shape:
            return jax.device_put(value, leaf.sharding)
        if not may_resize or not leaf.ndim or value.shape[1:] != leaf.shape[1:]:
            self._wrong.append(f"{here} is {list(value.shape)} there{self._there(name)}, {list(leaf.shape)} here")
            return leaf
        self._resized.append(f"{here} {len(value):,} -> {len(leaf):,} rows")
        rows = value[: len(leaf)]
        return jax.jit(lambda leaf, rows: leaf.at[: len(rows)].set(rows), out_shardings=leaf.sharding)(leaf, rows)

    def _there(self, name: str) -> str:
        theirs = self._theirs.get(name)
        return f" ({theirs})" if theirs else ""

    def _is(self, key: str, here: str) -> bool:
        pattern = self._patterns[key]
        found = bool(pattern and re.search(pattern, here))
        if found:
            self._named[key].append(here)
        return found

    def names_tokens(self) -> bool:
        """Whether a pattern names a table whose rows are tokens."""
        tables = [name.split("/")[-2:] for names in self._named.values() for name in names]
        return any(table[-1] == "embedding" and table[0] not in OTHER_TABLES for table in tables)

    def report(self) -> list[str]:
        """Lines on what was loaded; UserError where something did not fit, or a pattern fits nothing."""
        where = self._source.words
        if self._wrong:
            more = f" (and {len(self._wrong) - 1} more)" if len(self._wrong) > 1 else ""
            raise UserError(
                f"pretrained.weights = {where}: {self._wrong[0]}{more}; name what keeps its initial values in pretrained.fresh, "
                "tables of other lengths in pretrained.resize, or the place of all in pretrained.into"
            )
        for key, pattern in self._patterns.items():
            if pattern and not self._named[key]:
                raise UserError(
                    f"pretrained.{key} = {pattern!r} matches no parameter; see the paths with `almanac show`"
                )
        left = [_short(name) for name in self._found if name not in self._taken] + list(self._source.left)
        lines = [f"init     {len(self._taken)} arrays from {where}"]
        for word, names in {"resized": self._resized, "fresh": self._fresh, "left out": left}.items():
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"{word:<8} {', '.join(names[:SHOWN])}{more}")
        return lines


def read(weights: str, model: Any, into: str = "") -> Source:
    """A run's parameters, checksums verified, or weights of other libraries, for a model, under the path `into`."""
    path = Path(weights)
    if weights in published.WEIGHTS and not path.exists():
        # A part that `into` names is made within the model's call, and compared by its shapes alone.
        part = published.WEIGHTS[weights].module if into else model
        return of_layout(published.file(weights), part, into)._replace(words=f"{weights} (published)")
    if file := reader.file(path):
        return of_layout(file, model, into)
    if files.is_folder(path):
        return of_huggingface(path, model, into)
    if path.is_file() and any(path.match(kind) for kind in files.PICKLES):
        raise UserError(f"pretrained.weights = {weights} is {files.a_pickle(path.name)}")
    if path.is_file():
        raise UserError(f"pretrained.weights = {weights} is a file; give the folder that it is in, or a run")
    if not Path(weights.rpartition("@")[0] or weights).exists() and "://" not in weights:
        raise UserError(f"pretrained.weights = {weights}: no such run or folder")
    folder, which = checkpoint_files.split(weights)
    words, arrays = _arrays(folder, which)
    _check_run(folder, model)
    return Source(f"{weights} ({words})", placed(arrays, into))


def of_huggingface(folder: Path, model: Any, into: str = "") -> Source:
    """A folder of Hugging Face's, in the paths of `model`; UserError where that computes something else from its arrays."""
    found = huggingface.read(folder)
    arrays, theirs = found.placed(model, into)
    return Source(
        f"{folder} ({found.architecture.name})",
        {f"params/{name}": x for name, x in arrays.items()},
        {f"params/{name}": words for name, words in theirs.items()},
        tuple(found.left),
        _grids(model, into, found.grid),
    )


def of_layout(file: Path, model: Any, into: str = "") -> Source:
    """A file of torchvision's or timm's, in the paths of `model`; UserError where that computes something else from it."""
    found = reader.read(file, model)
    place = into or found.place
    words = f"{file} ({found.layout.module.__name__} of {found.layout.library})"
    arrays, theirs = placed(found.arrays, place), placed(found.theirs, place)
    return Source(words, arrays, theirs, grids=_grids(model, into, found.grid))


def _grids(model: Any, into: str, before: positions.Grid | None) -> dict[str, tuple[positions.Grid, positions.Grid]]:
    """`Source.grids` of a model's ViT, whose weights are for so many rows and columns of patches; None: they are for no ViT."""
    if before is None:
        return {}
    part, place = mapping.find(model, ViT)
    rows, columns, _ = part.image_shape
    after = (rows // part.patch, columns // part.patch)
    return {} if before == after else placed({"params/position": (before, after)}, into or place)


def _check_run(folder: Path, model: Any) -> None:
    """UserError where a run's model and this one differ in what no shape shows."""
    path = run_files.inside(folder, "config.json")
    if not path.exists():  # a folder of checkpoints alone
        return
    theirs = upgrade.of_file(run_files.read_object(path, run_files.CONFIG)).get("model")
    if not isinstance(theirs, dict):
        return
    ours = _attributes(model)
    for inner in list(ours.values()):
        ours = _attributes(inner) | ours
    for name in UNSEEN:
        there, here = theirs.get(name), ours.get(name)
        if None not in (there, here) and there != here:
            raise UserError(
                f"{folder} is a run with model.{name} = {there!r}, and model.{name} here is {here!r}: set it so"
            )


def _check_vocabulary(weights: str, ours: str) -> None:
    """UserError where the weights are of a run whose token ids mean something else."""
    path = run_files.inside(checkpoint_files.split(weights)[0], VOCABULARY)
    if not path.exists():  # of Hugging Face, a folder of checkpoints alone, or from before they were kept
        return
    if run_files.read_text(path) != ours:
        raise UserError(
            f"{weights} has another vocabulary (its {VOCABULARY}): the same token ids would mean other things here; make data "
            "as its config.json says, or name the table of tokens in pretrained.fresh, or in pretrained.resize to load its "
            "rows all the same"
        )


def _attributes(module: Any) -> dict[str, Any]:
    if not isinstance(module, nn.Module):
        return {}
    return {name: getattr(module, name) for name in module.__dataclass_fields__ if name != "parent"}


def of_checkpoint(text: str) -> tuple[str, Arrays]:
    """`RUN[@WHICH]` (the best that is kept, else the last) -> words, arrays: averaged parameters where there are any."""
    words, arrays = _arrays(*checkpoint_files.split(text))
    return f"{text} ({words})", arrays


def saved(text: str) -> tuple[str, Arrays]:
    """As `of_checkpoint`, and of a run of LoRA what trains under `params/`, the rest under `frozen/`."""
    return _saved(*checkpoint_files.split(text))


def _arrays(folder: Path, which: str) -> tuple[str, Arrays]:
    words, found = _saved(folder, which)
    return words, _merged(found)


def _saved(folder: Path, which: str) -> tuple[str, Arrays]:
    kinds = {one.kind for one in checkpoint_files.find(folder)}
    one = checkpoint_files.choose(f"{folder}@{which or ('best' if 'best' in kinds else 'last')}")
    names = {name: ours for name in one.leaves if (ours := _ours(name, one.leaves))}
    sums, found = one.json("checksums").get("state"), {}
    if not isinstance(sums, dict):
        raise UserError(f"{folder}: {one} is damaged: it has no checksums; choose another step, {folder}@STEP")
    for name, x in one.arrays(names):
        if isinstance(x, Exception) or name not in sums or not checksum.same(x, sums[name]):
            raise UserError(f"{folder}: {one} is damaged in {name}; choose another step, {folder}@STEP")
        found[names[name]] = x
    return str(one), found


def _merged(found: Arrays) -> Arrays:
    """The arrays of a saved state, those of a run of LoRA as its model has them."""
    tree = unflatten_dict(found, sep="/")
    if (frozen := tree.pop(low_rank.FROZEN, None)) is None:
        return found
    merged = low_rank.merge(frozen, tree.pop("params"))
    return {name: np.asarray(x) for name, x in flatten_dict({"params": merged, **tree}, sep="/").items()}


def _ours(name: str, leaves: Mapping) -> str:
    """A leaf of a saved state -> its name among variables; "" for what is none of them."""
    kind, _, rest = name.partition("/")
    averaged = any(other.startswith("ema/") for other in leaves)
    if kind == ("ema" if averaged else "params"):
        return f"params/{rest}"
    return rest if kind == "extra" else ""


def _short(name: str) -> str:
    return name.removeprefix("params/")
