"""A decoder's two programs as StableHLO, for any number of slots and any length: what a bundle keeps of a language model."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import traverse_util

from research.interop import stablehlo
from research.serving.decoder import Decoder, from_model

NAMES = ("prefill", "decode")
FACTS = {"max_length": int, "rewinds": bool}  # of a `Decoder`, that its programs do not say


def export(model: Any, variables: Mapping) -> dict[str, jax.export.Exported]:
    """{"prefill", "decode"}: the functions of a `Decoder`, of (`flat` variables, its arguments)."""
    decoder = from_model(model, dict(variables))
    slots, length = _sizes(decoder)
    parameters = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in stablehlo.flat(variables).items()}
    cache, number = _cache(decoder, slots, length), jax.ShapeDtypeStruct((), jnp.int32)
    chunk = jax.ShapeDtypeStruct((decoder.chunk,), jnp.int32)
    tokens, active = (jax.ShapeDtypeStruct((slots,), dtype) for dtype in (jnp.int32, bool))
    arguments = {"prefill": (cache, number, chunk, number, number), "decode": (cache, tokens, active)}

    def program(name: str) -> Callable:
        def call(parameters: Mapping, *given: Any) -> Any:
            return getattr(from_model(model, traverse_util.unflatten_dict(parameters, sep="/")), name)(*given)

        return jax.jit(call)

    exporters = {name: jax.export.export(program(name), platforms=stablehlo.PLATFORMS) for name in NAMES}
    return {name: exporters[name](parameters, *arguments[name]) for name in NAMES}


def facts(model: Any, variables: Mapping) -> dict[str, Any]:
    """What a manifest says of a decoder."""
    decoder = from_model(model, dict(variables))
    return {name: getattr(decoder, name) for name in FACTS}


def load(programs: Mapping[str, jax.export.Exported], parameters: Mapping, facts: Mapping[str, Any]) -> Decoder:
    """The decoder of exported programs and what a manifest says of it. Raises ValueError for facts that are missing or none."""
    if not all(type(facts.get(name)) is kind for name, kind in FACTS.items()):
        raise ValueError(f"a decoder has {', '.join(FACTS)}")
    calls = {name: jax.jit(programs[name].call, donate_argnums=1) for name in NAMES}
    logits, _ = jax.tree.unflatten(programs["prefill"].out_tree, programs["prefill"].out_avals)
    return Decoder(
        vocab_size=logits.shape[0],
        chunk=_arguments(programs["prefill"])[3].shape[0],
        max_length=facts["max_length"],
        rewinds=facts["rewinds"],
        new_cache=partial(_empty, programs["decode"]),
        prefill=partial(calls["prefill"], parameters),
        decode=partial(calls["decode"], parameters),
    )


def difference(a: Decoder, b: Decoder, tokens: Any) -> float:
    """The largest absolute difference of two decoders' logits, after up to a chunk of `tokens` i32[T] and after one more."""
    prompt = jnp.resize(jnp.asarray(tokens, jnp.int32), a.chunk)
    count, found = max(1, min(len(tokens), a.chunk) - 1), []
    for decoder in (a, b):
        slot, zero = jnp.int32(1), jnp.int32(0)
        first, cache = decoder.prefill(decoder.new_cache(2, decoder.chunk), slot, prompt, zero, jnp.int32(count))
        then, _ = decoder.decode(cache, jnp.resize(prompt[count], 2), jnp.array([False, True]))
        found.append(jnp.stack([first, then[1]]).astype(jnp.float32))
    return float(jnp.abs(found[0] - found[1]).max())


def _sizes(decoder: Decoder) -> tuple[Any, Any]:
    """The slots and the length of a cache as symbols; a recurrent state has no length."""
    if not decoder.rewinds:
        return *jax.export.symbolic_shape("s"), decoder.max_length
    return jax.export.symbolic_shape("s, l", constraints=[f"l >= {decoder.chunk}", f"l <= {decoder.max_length}"])


def _cache(decoder: Decoder, slots: Any, length: Any) -> Any:
    """Specs of a cache of symbolic sizes: axes that differ between caches of other sizes are those sizes."""
    L = decoder.max_length
    made = [jax.eval_shape(partial(decoder.new_cache, *sizes)) for sizes in ((1, L), (2, L), (1, max(1, L - 1)))]

    def spec(x: Any, more_slots: Any, longer: Any) -> jax.ShapeDtypeStruct:
        axes = zip(x.shape, more_slots.shape, longer.shape, strict=True)
        return jax.ShapeDtypeStruct([slots if n != a else length if n != b else n for n, a, b in axes], x.dtype)

    return jax.tree.map(spec, *made)


def _empty(program: jax.export.Exported, slots: int, length: int) -> Any:
    """Zeros of the shapes that the program's cache has, its letters replaced by these sizes."""
    sizes, cache = {"s": slots, "l": length}, _arguments(program)[1]
    return jax.tree.map(lambda x: jnp.zeros([sizes.get(str(d), d) for d in x.shape], x.dtype), cache)


def _arguments(program: jax.export.Exported) -> tuple:
    """The specs of (parameters, cache, ...)."""
    return jax.tree.unflatten(program.in_tree, program.in_avals)[0]
