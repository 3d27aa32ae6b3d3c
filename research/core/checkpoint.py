"""Checkpoints by Orbax: saved asynchronously, verified on restore, onto any mesh.

Beside each state lie checksums of its leaves, which no sharding changes: a flipped bit, a truncated or missing file is found
on restore (Orbax alone restores flipped bits without a word), the step is set aside under another name and the newest
good one is used.
"""

import errno
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from research.core.errors import UserError
from research.core.mesh import path_name


class Checkpoints:
    """The checkpoints of one folder: `save`, `restore`, `steps`. `keep` newest ones stay."""

    def __init__(self, folder: str | Path, keep: int = 3):
        self.folder = Path(folder).absolute()
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.LatestN(keep), cleanup_tmp_directories=True, create=False
        )
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            handlers = {
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
                "checksums": ocp.JsonCheckpointHandler(),
            }
            self._manager = ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)
        return self._manager

    def steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(self._open().all_steps())

    def save(self, step: int, state: Any, meta: dict) -> None:
        """Starts to save; raises what an earlier save met. Refuses a state that is not finite."""
        sums, finite = jax.device_get(_inspect(state))
        if broken := [path_name(p) for p, ok in jax.tree_util.tree_leaves_with_path(finite) if not ok]:
            raise UserError(f"step {step}: {broken[0]} is not finite; nothing was saved, the last checkpoint stands")
        checks = {path_name(p): int(v) for p, v in jax.tree_util.tree_leaves_with_path(sums)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta), checksums=ocp.args.JsonSave(checks)
        )
        with _clear_errors(self.folder):
            manager = self._open()
            manager.check_for_errors()
            if step in manager.all_steps():
                manager.delete(step)  # a run that was killed after this save does the same step again
            manager.save(step, args=args, force=True)

    def wait(self) -> None:
        if self._manager is not None:
            with _clear_errors(self.folder):
                self._manager.wait_until_finished()
                self._manager.check_for_errors()

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def restore(self, target: Any, step: int | None = None) -> tuple[Any, dict]:
        """The newest good checkpoint (or `step`) as `target`'s shapes, dtypes and shardings -> state, meta."""
        steps = self.steps() if step is None else [s for s in self.steps() if s == step]
        if not steps:
            raise UserError(f"{self.folder} holds no checkpoint{'' if step is None else f' of step {step}'}")
        for candidate in reversed(steps):
            try:
                return self._restore_one(candidate, target)
            except Damaged as e:
                self._set_aside(candidate, str(e))
        raise UserError(f"{self.folder}: no checkpoint is whole; the damaged ones were set aside as *.damaged")

    def _restore_one(self, step: int, target: Any) -> tuple[Any, dict]:
        manager = self._open()
        try:
            saved = manager.item_metadata(step)["state"]
        except Exception as e:
            raise Damaged(f"its metadata cannot be read ({_first_line(e)})") from None
        _check_structure(self.folder / str(step), saved, target)
        try:
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore(), checksums=ocp.args.JsonRestore()
            )
            found = manager.restore(step, args=args)
            checks = dict(found["checksums"])
        except Exception as e:  # Orbax and TensorStore raise a dozen kinds for a damaged file
            raise Damaged(_first_line(e)) from None
        sums, _ = jax.device_get(_inspect(found["state"]))
        for path, value in jax.tree_util.tree_leaves_with_path(sums):
            if checks.get(path_name(path)) != int(value):
                raise Damaged(f"the checksum of {path_name(path)} differs")
        return found["state"], found["meta"]

    def _set_aside(self, step: int, why: str) -> None:
        self.close()
        source = self.folder / str(step)
        aside = source.with_name(f"{step}.damaged")
        number = 1
        while aside.exists():
            number += 1
            aside = source.with_name(f"{step}.damaged.{number}")
        source.rename(aside)
        warnings.warn(f"checkpoint {source} is damaged: {why}; set aside as {aside.name}", stacklevel=2)


class Damaged(Exception):
    """A checkpoint that is not what was saved."""


def _check_structure(folder: Path, saved: Any, target: Any) -> None:
    """Orbax casts dtypes without a word and reports shapes without the leaf's name: compare first."""

    def leaves(tree):
        flat = jax.tree_util.tree_leaves_with_path(tree)
        return {path_name(p): (tuple(x.shape), str(x.dtype)) for p, x in flat if not _is_key(x)}

    have, want = leaves(saved), leaves(target)
    keys = {path_name(p) for p, x in jax.tree_util.tree_leaves_with_path(target) if _is_key(x)}
    for name in [*want, *have]:
        if name not in keys and have.get(name) != want.get(name):
            raise UserError(
                f"{folder} does not fit this model: {name} is {_say(have.get(name))} there, {_say(want.get(name))} here"
            )


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _say(leaf: tuple | None) -> str:
    return "absent" if leaf is None else f"{leaf[1]}{list(leaf[0])}"


def _first_line(e: Exception) -> str:
    return f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:200]}"


class _clear_errors:
    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, e, traceback) -> None:
        full = isinstance(e, OSError) and e.errno == errno.ENOSPC
        if e is not None and (full or "RESOURCE_EXHAUSTED" in str(e) or "No space left" in str(e)):
            raise UserError(f"no space left to save under {self.folder}; free some and start again: it resumes") from e
        if isinstance(e, PermissionError):
            raise UserError(f"cannot write to {self.folder}: {e.strerror}") from e


@jax.jit
def _inspect(tree: Any) -> tuple[Any, Any]:
    return jax.tree.map(_checksum, tree), jax.tree.map(_finite, tree)


def _finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.floating) else jnp.array(True)


def _checksum(x: jax.Array) -> jax.Array:
    """u32[]: sum of words times odd numbers of their places, modulo 2^32. Any one flipped bit changes it; no sharding does."""
    if _is_key(x):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[x.dtype.itemsize]
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    place, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for d in reversed(range(words.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, d) * jnp.uint32(stride % 2**32)
        stride *= words.shape[d]
    return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)
