"""Constrained generation: a regular expression, or a JSON schema, as tables that mask logits under jit.

outlines-core compiles the expression and the tokens' bytes to an automaton, whose states are called
places (Willard & Louf 2023, 2307.09702, section 3). It becomes arrays, with each place's distance to
the nearest full match, in tokens: with n tokens left, no token is drawn from which a match would take
more than n, so the generated text always matches in full.

The model needs no end-of-text token. Where the text is a full match, tokens that would leave the
match remain drawable, and drawing one ends the text there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from outlines_core import Index, Vocabulary, json_schema

from research.util.errors import UserError

# A token after the match, in no text: outlines-core 0.2.14 drops transitions from a full match to a partial one
# ("ab" to "aba" for (ab)+), and so no place may be a full match.
END = "\U0010ffff"


class Constraint(NamedTuple):
    """An automaton of P places over V tokens of C kinds (P, C padded to powers of two); starts at 0. Arguments are i32[B]."""

    following: Any  # i32[P, C], the place after a token of each kind, or -1
    kinds: Any  # i32[V], the kind of each token: tokens of a kind lead to the same places
    distance: Any  # i32[P], the fewest tokens to a full match

    def drawable(self, place: jax.Array, left: jax.Array) -> jax.Array:
        """bool[B, V]: the tokens after which `left` more suffice for a full match, or all tokens at a full match."""
        after = jnp.asarray(self.following)[place]
        ends = (after >= 0) & (jnp.asarray(self.distance)[after] <= left[:, None])
        matched = jnp.asarray(self.distance)[place] == 0
        return ends[:, self.kinds] | matched[:, None]

    def follow(self, place: jax.Array, token: jax.Array, left: jax.Array) -> jax.Array:
        """i32[B]: the place after a drawable token, or -1 if it ends the text instead."""
        after = jnp.asarray(self.following)[place, jnp.asarray(self.kinds)[token]]
        return jnp.where((after >= 0) & (jnp.asarray(self.distance)[after] <= left), after, -1)

    def goes_on(self, place: jax.Array) -> jax.Array:
        """bool[B]: whether any token can follow at a place; False at -1."""
        return (place >= 0) & (jnp.asarray(self.following)[place] >= 0).any(-1)

    def check(self, vocab_size: int, length: int) -> None:
        """Raises UserError if the tokens are another model's, or every match takes more than `length` of them."""
        if len(self.kinds) != vocab_size:
            raise UserError(f"constraint for {len(self.kinds)} tokens: the model has {vocab_size}")
        if (least := int(self.distance[0])) > length:
            raise UserError(f"length={length}: the shortest text that matches the constraint has {least} tokens")


def from_regex(pattern: str, token_bytes: Sequence[bytes]) -> Constraint:
    """A regular expression over tokens, where token i stands for `token_bytes[i]` (b"": a token that is not text).

    The dialect is Rust's regex crate's: no look-around, no back-references. Raises UserError for a
    pattern that it cannot read, or that no text of these tokens matches.

    >>> constraint = from_regex("a+b", [b"a", b"b"])
    >>> constraint.drawable(jnp.array([0]), jnp.array([5])).tolist()
    [[True, False]]
    """
    shown = repr(pattern if len(pattern) <= 60 else f"{pattern[:57]}...")
    ids: dict[bytes, list[int]] = {}
    for i, piece in enumerate(token_bytes):
        if piece:
            ids.setdefault(piece, []).append(i)
    try:
        ids.setdefault(END.encode(), []).append(len(token_bytes))
        vocabulary = Vocabulary(len(token_bytes) + 1, ids)  # type: ignore[arg-type]  # its stub knows no bytes
        index = Index(f"(?:{pattern}){END}", vocabulary)
    except ValueError as e:
        why = " ".join(str(e).split())
        if "DFA" in why:
            why = "no regular expression that can be compiled (look-around and references to groups cannot)"
        raise UserError(f"constraint {shown}: {why}") from None
    following, matched = _table(index, len(token_bytes))
    distance = _distances(following, matched)
    if distance[0] > len(following):
        raise UserError(f"constraint {shown}: no text of this vocabulary matches it (^ and $ are not wanted)")
    dead_ends = distance > len(following)
    following = np.where((following >= 0) & ~dead_ends[following], following, -1)
    kinds = np.zeros(len(token_bytes), np.int64)
    for row in following:  # each place splits kinds further: hundreds of kinds, of fifty thousand tokens
        kinds = np.unique(kinds * (len(following) + 1) + row, return_inverse=True)[1]
    columns = following[:, np.unique(kinds, return_index=True)[1]]
    padding = [(0, max(64, 1 << (n - 1).bit_length()) - n) for n in columns.shape]  # few shapes: a new one recompiles
    return Constraint(
        np.pad(columns, padding, constant_values=-1),
        kinds.astype(np.int32),
        np.pad(distance, padding[0], mode="maximum"),
    )


def _table(index: Index, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An index's transitions by the first `size` tokens, i32[P, V], and where END may follow, bool[P]; it starts at 0."""
    moves, first = index.get_transitions(), index.get_initial_state()
    states = [first, *sorted({*moves, *(s for row in moves.values() for s in row.values())} - {first})]
    number = {s: i for i, s in enumerate(states)}
    following = np.full((len(states), size + 2), -1, np.int32)  # the last two: END, and the library's own
    for state, row in moves.items():
        following[number[state], list(row)] = [number[s] for s in row.values()]
    final = np.array([s in index.get_final_states() for s in states])
    matched = (following[:, size] >= 0) & final[following[:, size]]
    return following[:, :size], matched


def _distances(following: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """The fewest tokens from each place to a full match, i32[P]; more than P if none is reachable."""
    P = len(matched)
    steps = [np.unique(row[row >= 0]) for row in following]
    distance = np.where(matched, 0, P + 1)
    for _ in range(P):
        after = [min((distance[row].min(initial=P) + 1, old)) for row, old in zip(steps, distance, strict=True)]
        if np.array_equal(after, distance):
            break
        distance = np.array(after)
    return distance.astype(np.int32)


# Keywords that become part of the expression, and those that do not constrain the text.
ENFORCED = {
    "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength",
    "format", "enum", "const", "anyOf", "$ref", "$defs", "definitions", "additionalProperties",
}  # fmt: skip
NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated"}
FORMATS = ("date", "date-time", "time", "uuid")  # the others' expressions allow a bare quotation mark


def schema_regex(schema: Any) -> str:
    """A JSON schema -> the regular expression of the JSON texts that obey it, on one line, keys in the schema's order.

    Raises UserError for a keyword that would not be enforced.

    >>> schema_regex({"type": "boolean"})
    '(true|false)'
    """
    _check_schema(schema, "schema")
    try:
        return json_schema.build_regex_from_schema(json.dumps(schema))
    except ValueError as e:
        raise UserError(f"JSON schema: {' '.join(str(e).split())[:200]}") from None


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, Mapping):
        raise UserError(f"JSON {where} = {schema!r}: want an object")
    for key in schema:
        if key not in ENFORCED | NOTES:
            raise UserError(f"JSON {where}: {key!r} would not be enforced; leave it out, or write a regular expression")
    if schema.get("format", "date") not in FORMATS:
        raise UserError(f"JSON {where}: format {schema['format']!r} is not enforced, only {', '.join(FORMATS)}")
    properties = schema.get("properties", {})
    if schema.get("additionalProperties", False) is not False or ("additionalProperties" in schema and not properties):
        raise UserError(f"JSON {where}: additionalProperties can be false, beside properties, and nothing else")
    for name in schema.get("required", []):
        if name not in properties:
            raise UserError(f"JSON {where}: required {name!r} is not among its properties")
    for name in properties:
        if json.dumps(name, ensure_ascii=False) != f'"{name}"':
            raise UserError(f"JSON {where}: the name {name!r} would have to be escaped")
    parts = {key: schema[key] for key in ("properties", "$defs", "definitions") if key in schema}
    inside = [(f"{where}/{key}/{name}", part) for key, group in parts.items() for name, part in group.items()]
    inside += [(f"{where}/items", schema["items"])] if "items" in schema else []
    for key in ("anyOf", "prefixItems"):
        inside += [(f"{where}/{key}/{i}", part) for i, part in enumerate(schema.get(key, []))]
    for name, part in inside:
        _check_schema(part, name)
