"""Damage: whether a state is what was saved, whether it is finite, and what becomes of a damaged folder."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from research.run import checksum
from research.run.checksum import is_key
from research.util.errors import UserError


@functools.partial(jax.jit, static_argnames="version")
def inspect(tree: Any, version: int = checksum.VERSION) -> tuple[Any, Any]:
    """A tree of arrays -> trees of their checksums (u32[2]; u32[] of version 1) and of whether all is finite, bool[]."""
    return jax.tree.map(lambda x: checksum.of_device(x, version), tree), jax.tree.map(_finite, tree)


def _finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.floating) else jnp.array(True)


def first_mismatch(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first leaf, by name, whose shape or dtype is another than is expected; "" if all fit. Keys are saved as words."""
    keys = {name for name, x in expected.items() if is_key(x) and name in saved}
    for name in dict.fromkeys([*expected, *saved]):
        have, want = (_say(tree.get(name)) for tree in (saved, expected))
        if name not in keys and have != want:
            return f"{name} is {have} there, {want} here"
    return ""


def _say(leaf: Any) -> str:
    return "absent" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


class Damaged(Exception):
    """A checkpoint that is not what was saved."""


@contextlib.contextmanager
def read_errors() -> Iterator[None]:
    """Orbax and TensorStore raise a dozen kinds for a damaged file. A device too small is none of them."""
    try:
        yield
    except Exception as e:
        line = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:200]}"
        if isinstance(e, PermissionError) or "RESOURCE_EXHAUSTED" in str(e):
            raise UserError(f"cannot restore the checkpoint: {line}") from None
        raise Damaged(line) from None


def set_aside(folder: Path) -> Path:
    """Renames a damaged step's folder to `N.damaged`, or `N.damaged.2` where there is one -> its new name."""
    names = (f"{folder.name}.damaged{end}" for end in ("", *(f".{k}" for k in range(2, 10_000))))
    aside = next(path for name in names if not (path := folder.with_name(name)).exists())
    folder.rename(aside)
    return aside
