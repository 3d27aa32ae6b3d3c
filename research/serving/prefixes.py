"""Prompts that begin alike: what a slot has read of one of them, another slot need not read again.

Whole chunks are shared, from the beginning on. The program that reads them for one request is the one that would for the other,
with the same tokens at the same places, so that the other's logits are the same bits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.serving.decoder import Decoder, differing_axes

NOTHING = np.zeros(0, np.int32)


class Prefixes:
    """What each of a cache's slots holds of the prompt that it read last, and the program that copies it to another.

    A decoder that keeps one state a slot, such as a recurrent one, shares nothing.
    """

    def __init__(self, decoder: Decoder, slots: int, length: int):
        self._chunk = decoder.chunk
        self._held = [NOTHING] * slots  # a whole number of chunks
        self._axes = _axes(decoder, length) if decoder.rewinds and length > decoder.chunk else None

    def place(self, prompt: np.ndarray, free: Sequence[int]) -> tuple[int, int, int]:
        """-> one of the `free` slots for a prompt; the slot that holds most of its beginning; how many tokens of it.

        That slot itself if it is free, else the one with the least to lose. A token at least remains to be read.
        """
        counts = [self._common(prompt, held) for held in self._held]
        source = max(range(len(counts)), key=lambda slot: (counts[slot], slot in free))
        slot = source if counts[source] and source in free else min(free, key=lambda slot: len(self._held[slot]))
        return slot, source, counts[source]

    def copy(self, cache: Any, slot: int, source: int, prompt: np.ndarray, count: int) -> Any:
        """The cache after the slot got the first `count` tokens of a prompt from `source`, and nothing else."""
        self._held[slot] = prompt[:count]
        return _copy(cache, slot, source, count, self._axes) if count else cache

    def compile(self, cache: Any) -> Any:
        """The cache, of which slot 0 is empty then."""
        return _copy(cache, 0, 0, 0, self._axes) if self._axes else cache

    def read(self, slot: int, prompt: np.ndarray, start: int, count: int) -> None:
        """Notes that the slot has read `count` tokens of its prompt from `start` on."""
        if self._axes:
            whole = start % self._chunk == 0 and count == self._chunk
            self._held[slot] = prompt[: start // self._chunk * self._chunk + whole * self._chunk]

    def _common(self, prompt: np.ndarray, held: np.ndarray) -> int:
        most = min(len(held), len(prompt) - 1)
        unlike = np.flatnonzero(prompt[:most] != held[:most])
        return (int(unlike[0]) if len(unlike) else most) // self._chunk * self._chunk


def _axes(decoder: Decoder, length: int) -> tuple[tuple[int, int], ...]:
    """Of each of the cache's arrays the axes that count slots and tokens."""
    sizes = ((1, length), (2, length), (1, length - 1))
    one, more_slots, shorter = (jax.eval_shape(partial(decoder.new_cache, *each))["layers"] for each in sizes)
    axes = (jax.tree.leaves(differing_axes(one, other)) for other in (more_slots, shorter))
    return tuple(zip(*axes, strict=True))


@partial(jax.jit, static_argnames="axes", donate_argnames="cache")
def _copy(cache, slot, source, count, axes):
    def of_array(x, slots, tokens):
        row = jax.lax.dynamic_slice_in_dim(x, source, 1, slots)
        inside = jax.lax.broadcasted_iota(jnp.int32, row.shape, tokens) < count
        row = jnp.where(inside, row, 0)  # what lies beyond may not be finite; the barrier is as in `decoder`
        return jax.lax.dynamic_update_slice_in_dim(x, jax.lax.optimization_barrier(row), slot, slots)

    arrays, tree = jax.tree.flatten(cache["layers"])
    arrays = [of_array(x, *each) for x, each in zip(arrays, axes, strict=True)]
    return {"layers": jax.tree.unflatten(tree, arrays), "index": cache["index"].at[slot].set(count)}
