"""Checkpoints as files: found, read leaf by leaf as NumPy arrays, and verified.

It takes neither the devices that saved them nor the experiment, and memory for a few leaves.
"""

import functools
import json
import logging
import math
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.mesh import path_name
from research.run import checksum, identity, manifest, object_store
from research.util import run_files
from research.util.errors import UserError

GROUP = 1 << 25  # bytes of leaves read at once: each reading parses the metadata anew
VOCABULARY = run_files.VOCABULARY
BLOCK = 1 << 20  # elements worked on at once
_SAVED = run_files.Shape({"commit_timestamp_nsecs": run_files.NUMBER})
_NAME = re.compile(r"(\d+)(\.damaged.*|\.orbax-checkpoint-tmp.*)?")


class Checkpoint:
    """One step's folder. `kind`: "best", "last" (the newest), "kept", "damaged" (set aside) or "half-written"."""

    def __init__(self, path: Path, kind: str):
        self.path, self.kind = path, kind
        self.step = int(_NAME.fullmatch(path.name)[1])
        self.whole = kind not in ("damaged", "half-written")  # by its name: what a restart would try

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def _state(self) -> Any:
        from etils import epath

        return epath.Path(self.path.absolute()) / "state"

    @functools.cached_property
    def _tree(self) -> Any:
        if large := manifest.oversized(self.path):
            raise UserError(f"{self.path}: {large[0]}")
        ocp = _orbax()
        found = ocp.PyTreeCheckpointHandler().metadata(self._state)
        return found.tree if hasattr(found, "tree") else found

    @functools.cached_property
    def leaves(self) -> dict[str, Any]:
        """{path: metadata} with `shape` and `dtype`; random keys are their words. Raises what a damaged folder makes of it."""
        return {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(self._tree)}

    def arrays(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray | Exception]]:
        """(path, array) of each leaf; for one that cannot be read, what its reading raised."""
        for group in _groups(names, self.leaves):
            found = self._restore(group)
            if isinstance(found, Exception) and len(group) > 1:
                found = [self._restore([name]) for name in group]
                found = [x if isinstance(x, Exception) else x[0] for x in found]
            yield from zip(group, [found] if isinstance(found, Exception) else found, strict=True)

    def _restore(self, names: Sequence[str]) -> list[np.ndarray] | Exception:
        ocp = _orbax()
        flat, tree = jax.tree.flatten(self._tree)
        wanted = [leaf if name in names else ocp.PLACEHOLDER for name, leaf in zip(self.leaves, flat, strict=True)]
        # Without a sharding, and as NumPy: the devices of the saved one need not be here.
        how = [ocp.RestoreArgs(restore_type=np.ndarray) for _ in flat]
        args = ocp.args.PyTreeRestore(item=jax.tree.unflatten(tree, wanted), restore_args=jax.tree.unflatten(tree, how))
        try:
            found = ocp.PyTreeCheckpointHandler().restore(self._state, args=args)
            by_name = dict(zip(self.leaves, jax.tree.leaves(found), strict=True))
            return [by_name[name] for name in names]
        except Exception as e:  # a dozen kinds, for a damaged file
            return e

    def json(self, item: str) -> Any:
        """The item `meta` or `checksums`. Raises UserError if it cannot be read."""
        return run_files.read_object(run_files.inside(self.path, f"{item}/metadata"))

    def bytes(self) -> int:
        return sum(file.lstat().st_size for _, file in manifest.files(self.path))

    def saved(self) -> float | None:
        """Seconds since 1970 by the clock of the machine that saved it."""
        try:
            about = run_files.read_object(run_files.inside(self.path, "_CHECKPOINT_METADATA"), _SAVED)
            return about["commit_timestamp_nsecs"] / 1e9
        except UserError:
            return None


def _orbax() -> Any:
    """Imported for a checkpoint that is looked into: every family imports this module, and few runs begin with another's."""
    import orbax.checkpoint as ocp

    return ocp


def _groups(names: Iterable[str], leaves: dict[str, Any]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for name in names:
        size = math.prod(leaves[name].shape) * np.dtype(leaves[name].dtype).itemsize
        if group and total + size > GROUP:
            yield group
            group, total = [], 0
        group, total = [*group, name], total + size
    if group:
        yield group


# Where they are


def find(folder: Path) -> list[Checkpoint]:
    """All of a run directory's, or of a folder of checkpoints, by place and step; a UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run directory or a folder of checkpoints")
    places = [p for name in ("checkpoints", "best") if (p := run_files.inside(folder, name)).is_dir()] or [folder]
    found = [one for place in places for one in _inside(place)]
    if not found:
        raise UserError(f"{folder} holds no checkpoint; give a run directory or a folder of checkpoints")
    return found


def _inside(place: Path) -> list[Checkpoint]:
    matches = [(path, _NAME.fullmatch(path.name)) for path in place.iterdir() if path.is_dir()]
    names = sorted((int(m[1]), m[2] or "", path) for path, m in matches if m)
    newest = max((step for step, suffix, _ in names if not suffix), default=None)

    def kind(step: int, suffix: str) -> str:
        if suffix:
            return "damaged" if suffix.startswith(".damaged") else "half-written"
        return "best" if place.name == "best" else "last" if step == newest else "kept"

    return [Checkpoint(path, kind(step, suffix)) for step, suffix, path in names]


def split(text: str) -> tuple[Path, str]:
    """`DIR[@WHICH]` -> folder (of a URL a copy, made now), which ("" if not said)."""
    folder, _, which = ("", "", "") if Path(text).exists() else text.rpartition("@")
    return object_store.fetch(folder or text, newest=False), which if folder else ""


def choose(text: str) -> Checkpoint:
    """`DIR[@WHICH]`: a step, `best`, `last` (the default), or the name of a folder such as `9.damaged`."""
    folder, which = split(text)
    found = find(folder)
    which = which or ("last" if any(one.kind == "last" for one in found) else "best")
    names = {name: one for one in reversed(found) for name in _names(one)}
    if which not in names:
        raise UserError(f"{text}: {folder} has no checkpoint {which!r}; there are {', '.join(reversed(names))}")
    return names[which]


def _names(one: Checkpoint) -> list[str]:
    return [one.path.name, *([one.kind] if one.kind in ("best", "last") else [])]


# Whether they are whole


def verify(one: Checkpoint) -> list[str]:
    """A line for each thing that is not as it was saved: files, metadata, leaves. None, and every byte has been checked."""
    lines = manifest.problems(one.path) if manifest.exists(one.path) else []
    try:
        if odd := manifest.irregular(one.path) or manifest.oversized(one.path):
            return odd
        checks, meta, leaves = one.json("checksums"), one.json("meta"), one.leaves
        sums, meta_sum = dict(checks["state"]), checks["meta"]
        list(_groups(leaves, leaves))  # each has a shape and a dtype
    except Exception as e:  # as above
        return [*lines, f"its metadata cannot be read: {first_line(e)}"]
    if zlib.crc32(json.dumps(meta).encode()) != meta_sum:
        lines.append("meta: the checksum differs")
    elif problem := identity.problem(meta.get(identity.KEY), one.step, identity.of_run(one.path.parents[1])):
        lines.append(problem)
    lines += [f"{name} has a checksum, and is absent" for name in sums if name not in leaves]
    lines += [f"{name} has no checksum" for name in leaves if name not in sums]
    for name, x in one.arrays(name for name in leaves if name in sums):
        if isinstance(x, Exception):
            lines.append(f"{name} cannot be read: {first_line(x)}")
        elif not checksum.same(x, sums[name]):
            lines.append(f"{name} is damaged: its checksum differs")
        elif name == "step" and int(x) != one.step:
            lines.append(f"step is {int(x)}, in the folder of step {one.step}")
    return lines


def first_line(e: Exception) -> str:
    return f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:200]}"


def quiet() -> None:
    """Leaves out of this process's stderr what is said of the other reads when one has failed: `verify` tells which."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    hook = sys.unraisablehook

    def without(message: Any) -> None:
        if str(message.exc_value) != "Event loop is closed":
            hook(message)

    sys.unraisablehook = without
