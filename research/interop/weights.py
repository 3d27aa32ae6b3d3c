"""Parameters from elsewhere: a checkpoint of one of our runs, or a folder of Hugging Face weights, into a fresh state.

A config's `init` group says which:

    weights   RUN[@best|@last|@STEP] or a folder with safetensors; None: the family's own initial values
    into      the path that the arrays go under: "encoder" makes tokens/embedding encoder/tokens/embedding
    fresh     a regular expression of paths here that keep their initial values, a new head's, say
    resize    of paths whose first axis may differ (an embedding's rows): the rows that both have are loaded

Every other array must be there, in its shape. What the source has beside them is left out, and listed.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.core.mesh import path_name
from research.core.state import TrainState
from research.host.errors import UserError
from research.interop import checkpoint_files

SHOWN = 6  # names of a list that the report says
Arrays = dict[str, np.ndarray]


def initial(cfg: Mapping[str, Any]) -> Callable | None:
    """The `init` group of a config -> what `Experiment.initial` holds; None where nothing is to be loaded."""
    weights, into, fresh, resize = (cfg[key] or "" for key in ("weights", "into", "fresh", "resize"))
    if not weights:
        for key, value in {"into": into, "fresh": fresh, "resize": resize}.items():
            if value:
                raise UserError(f"init.{key} = {value!r} needs init.weights (or --init-from)")
        return None
    for key, pattern in {"fresh": fresh, "resize": resize}.items():
        try:
            re.compile(pattern)
        except re.error as e:
            raise UserError(f"init.{key} = {pattern!r} is no regular expression: {e}") from None
    return lambda state, note: load(state, note, weights, into, fresh, resize)


def load(
    state: TrainState, note: Callable[[str], None], weights: str, into: str = "", fresh: str = "", resize: str = ""
) -> TrainState:
    """The state with `weights` in place of its parameters, mutable collections and averages; `note` is told what was done.

    UserError for what does not fit: nothing of the state has then been used.
    """
    where, found = read(weights)
    found = placed(found, into)
    variables = {"params": state.params, **state.extra}
    paths, tree = jax.tree_util.tree_flatten_with_path(variables)
    fitted = Fitted(found, fresh, resize)
    leaves = [fitted.one(path_name(path), leaf) for path, leaf in paths]
    for line in fitted.report(where):
        note(line)
    variables = jax.tree.unflatten(tree, leaves)
    params = variables.pop("params")
    averaged = jax.tree.map(jnp.copy, params) if state.ema else state.ema
    return state.replace(params=params, extra=variables, ema=averaged)


def placed(found: Arrays, into: str) -> Arrays:
    """The same arrays under the path `into` of their collections."""
    return {name.replace("/", f"/{into.strip('/')}/", 1) if into else name: x for name, x in found.items()}


class Fitted:
    """Arrays by path, fitted one by one to the leaves of another tree."""

    def __init__(self, found: Arrays, fresh: str, resize: str):
        self._found, self._patterns = found, {"fresh": fresh, "resize": resize}
        self._taken: list[str] = []
        self._resized: list[str] = []
        self._fresh: list[str] = []
        self._wrong: list[str] = []
        self._used = dict.fromkeys(self._patterns, False)

    def one(self, name: str, leaf: jax.Array) -> jax.Array:
        """The leaf of that name, with the loaded values, on the same devices."""
        here = _short(name)
        if self._is("fresh", here):
            self._fresh.append(here)
            return leaf
        value = self._found.get(name)
        if value is None:
            self._wrong.append(f"{here} {list(leaf.shape)} is not there")
            return leaf
        self._taken.append(name)
        value, may_resize = value.astype(leaf.dtype), self._is("resize", here)
        if value.shape == leaf.shape:
            return jax.device_put(value, leaf.sharding)
        if not may_resize or not leaf.ndim or value.shape[1:] != leaf.shape[1:]:
            self._wrong.append(f"{here} is {list(value.shape)} there, {list(leaf.shape)} here")
            return leaf
        self._resized.append(f"{here} {len(value):,} -> {len(leaf):,} rows")
        rows = value[: len(leaf)]
        return jax.jit(lambda leaf, rows: leaf.at[: len(rows)].set(rows), out_shardings=leaf.sharding)(leaf, rows)

    def _is(self, key: str, here: str) -> bool:
        pattern = self._patterns[key]
        found = bool(pattern and re.search(pattern, here))
        self._used[key] |= found
        return found

    def report(self, where: str) -> list[str]:
        """Lines on what was loaded; UserError where something did not fit, or a pattern fits nothing."""
        if self._wrong:
            more = f" (and {len(self._wrong) - 1} more)" if len(self._wrong) > 1 else ""
            raise UserError(
                f"init.weights = {where}: {self._wrong[0]}{more}; name what keeps its initial values in init.fresh, "
                "tables of other lengths in init.resize, or the place of all in init.into"
            )
        for key, pattern in self._patterns.items():
            if pattern and not self._used[key]:
                raise UserError(f"init.{key} = {pattern!r} matches no parameter; see the paths with `almanac show`")
        left = [_short(name) for name in self._found if name not in self._taken]
        lines = [f"init     {len(self._taken)} arrays from {where}"]
        for word, names in {"resized": self._resized, "fresh": self._fresh, "left out": left}.items():
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"{word:<8} {', '.join(names[:SHOWN])}{more}")
        return lines


def read(weights: str) -> tuple[str, Arrays]:
    """-> what it is, in words, and its arrays by path, `params/...` and those of mutable collections, checksums verified."""
    folder = Path(weights.rpartition("@")[0] or weights)
    if not folder.exists() and "://" not in weights:
        raise UserError(f"init.weights = {weights}: no such run or folder")
    return of_checkpoint(weights)


def of_checkpoint(text: str) -> tuple[str, Arrays]:
    """`RUN[@WHICH]` (the best that is kept, else the last) -> words, arrays: averaged parameters where there are any."""
    folder, which = checkpoint_files.split(text)
    kinds = {one.kind for one in checkpoint_files.find(folder)}
    one = checkpoint_files.choose(f"{folder}@{which or ('best' if 'best' in kinds else 'last')}")
    names = {name: ours for name in one.leaves if (ours := _ours(name, one.leaves))}
    sums, found = one.json("checksums")["state"], {}
    for name, x in one.arrays(names):
        if isinstance(x, Exception) or checkpoint_files.checksum(x) != sums[name]:
            raise UserError(f"{folder}: {one} is damaged in {name}; choose another step, {folder}@STEP")
        found[names[name]] = x
    return f"{text} ({one})", found


def _ours(name: str, leaves: Mapping) -> str:
    """A leaf of a saved state -> its name among variables; "" for what is none of them."""
    kind, _, rest = name.partition("/")
    averaged = any(other.startswith("ema/") for other in leaves)
    if kind == ("ema" if averaged else "params"):
        return f"params/{rest}"
    return rest if kind == "extra" else ""


def _short(name: str) -> str:
    return name.removeprefix("params/")
