"""Checksums of arrays that no sharding changes, on the device and on the host.

A checksum is two 32-bit sums, modulo 2^32, over an array's 32-bit words. Each word is combined with its place and mixed by
a bijection of 32 bits before it is added, a different one for each sum: MurmurHash3's finalizer (Appleby 2011) and
lowbias32 (Wellons 2018). So a change within one word is always found, and any other change is missed with a probability of
about 2^-64: flipped bits, negated elements, and elements or leaves that were swapped alike.

Version 1 is one sum of words times odd numbers of their places: it cannot see that two sign bits were flipped. It is still
read.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

VERSION = 2
BLOCK = 1 << 20  # words that the host works on at once
# For each sum: what places are multiplied by, then shift, factor, shift, factor, shift.
MIXERS = (
    (0x9E3779B1, (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16)),
    (0xC2B2AE3D, (16, 0x7FEB352D, 15, 0x846CA68B, 16)),
)


def of_device(x: jax.Array, version: int = VERSION) -> jax.Array:
    """u32[2] of an array of any shape and dtype, typed random keys among them; of version 1, u32[]."""
    if is_key(x):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    # Of eight bytes, two words: the lower half is the first.
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    place = _places(words.shape)
    if version == 1:
        return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)
    return jnp.stack([jnp.sum(_mix(words, place, *mixer), dtype=jnp.uint32) for mixer in MIXERS])


def of_host(x: np.ndarray, version: int = VERSION) -> list[int] | int:
    """The same numbers of a NumPy array, with memory for a few blocks."""
    x = np.ascontiguousarray(x).reshape(-1)
    words = x.view({1: np.uint8, 2: np.uint16}.get(x.dtype.itemsize, np.uint32))
    sums = [0] * (1 if version == 1 else len(MIXERS))
    for start in range(0, len(words), BLOCK):
        block = words[start : start + BLOCK].astype(np.uint32)
        place = np.arange(start, start + len(block)).astype(np.uint32)  # modulo 2^32
        mixed = [block * (2 * place + 1)] if version == 1 else [_mix(block, place, *mixer) for mixer in MIXERS]
        sums = [(a + int(np.sum(b, dtype=np.uint32))) % 2**32 for a, b in zip(sums, mixed, strict=True)]
    return sums[0] if version == 1 else sums


def same(x: np.ndarray, saved: list[int] | int) -> bool:
    """Whether an array has a checksum as a file has it: two numbers, or one of version 1."""
    return of_host(x, 1 if isinstance(saved, int) else VERSION) == saved


def is_key(x: Any) -> bool:
    """Whether an array is of typed random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _mix(words: Any, place: Any, factor: int, mixer: tuple[int, ...]) -> Any:
    """u32 words at u32 places -> u32, by JAX or by NumPy; for each place a bijection of the word."""
    shift_1, factor_1, shift_2, factor_2, shift_3 = map(np.uint32, mixer)
    x = words ^ (place * np.uint32(factor))
    x = (x ^ (x >> shift_1)) * factor_1
    x = (x ^ (x >> shift_2)) * factor_2
    return x ^ (x >> shift_3)


def _places(shape: tuple[int, ...]) -> jax.Array:
    """u32: the position of each element in row-major order, modulo 2^32. No device needs to know another's."""
    place, stride = jnp.zeros(shape, jnp.uint32), 1
    for d in reversed(range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, d) * np.uint32(stride % 2**32)
        stride *= shape[d]
    return place
