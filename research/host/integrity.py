"""Damage: checksums of arrays that no sharding changes, whether they are finite, and what becomes of a damaged folder."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from research.host.errors import UserError


@jax.jit
def inspect(tree: Any) -> tuple[Any, Any]:
    """A tree of arrays -> the same trees of `checksum`s u32[] and of whether all is finite, bool[]."""
    return jax.tree.map(checksum, tree), jax.tree.map(_finite, tree)


def is_key(x: Any) -> bool:
    """Whether an array is of typed random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def checksum(x: jax.Array) -> jax.Array:
    """u32[]: sum of words times odd numbers of their places, modulo 2^32. Any one flipped bit changes it; no sharding does."""
    if is_key(x):
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


def _finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.floating) else jnp.array(True)


def misfit(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first leaf, by name, whose shape or dtype is another than is wanted; "" if all fit. Keys are saved as words."""
    keys = {name for name, x in wanted.items() if is_key(x) and name in saved}
    for name in dict.fromkeys([*wanted, *saved]):
        have, want = (_say(tree.get(name)) for tree in (saved, wanted))
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
