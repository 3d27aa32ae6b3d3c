"""Constrained generation: a regular expression, or a JSON schema, as tables that mask logits under jit.

outlines-core compiles the expression and the tokens' bytes to an automaton, whose states are called
places (Willard & Louf 2023, 2307.09702, section 3). It becomes arrays, with each place's distance to
the nearest full match, in tokens: with n tokens left, no token is drawn from which a match would take
more than n, so the generated text always matches in full.

The model needs no end-of-text token. Where the text is a full match, tokens that would leave the
match remain drawable, and drawing one ends the text there.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from outlines_core import Index, json_schema

from research.util.errors import UserError
from research.util.run_files import shown

# A token after the match, in no text: outlines-core 0.2.14 drops transitions from a full match to a partial one
# ("ab" to "aba" for (ab)+), and so no place may be a full match.
END = "\U0010ffff"
# Bounds of an automaton, which a short expression may exceed by far: [ab]*a[ab]{30} has 2^31 states.
SECONDS, MEMORY, ENTRIES = 30.0, 4 << 30, 1 << 28
SIMPLER = "write fewer repetitions inside one another, or smaller ones"


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
    pattern that it cannot read, or that no text of these tokens matches, or whose automaton is too large.

    >>> constraint = from_regex("a+b", [b"a", b"b"])
    >>> constraint.drawable(jnp.array([0]), jnp.array([5])).tolist()
    [[True, False]]
    """
    name = repr(pattern if len(pattern) <= 60 else f"{pattern[:57]}...")
    ids: dict[bytes, list[int]] = {}
    for i, piece in enumerate(token_bytes):
        if piece:
            ids.setdefault(piece, []).append(i)
    ids.setdefault(END.encode(), []).append(len(token_bytes))
    try:
        following, matched = _table(_index(f"(?:{pattern}){END}", ids, len(token_bytes) + 1), len(token_bytes))
    except ValueError as e:
        raise UserError(f"constraint {name}: {e}") from None
    distance = _distances(following, matched)
    if distance[0] > len(following):
        raise UserError(f"constraint {name}: no text of this vocabulary matches it (^ and $ are not wanted)")
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


def _index(pattern: str, ids: Mapping[bytes, Sequence[int]], eos: int) -> Index:
    """The automaton over tokens, compiled by a process of its own. Raises ValueError that says in a line why there is none."""
    given = {
        "pattern": pattern,
        "tokens": [[token.decode("latin-1"), numbers] for token, numbers in ids.items()],
        "eos": eos,
        "memory": MEMORY,
    }
    builder = Path(__file__).with_name("index_builder.py")
    command, text = [sys.executable, "-P", str(builder)], json.dumps(given)
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it was not compiled in {SECONDS:.0f} s; {SIMPLER}") from None
    why = " ".join(done.stderr.decode("utf-8", "replace").split())
    if done.returncode == 0:
        return Index.from_binary(done.stdout)
    if done.returncode != 1 or "MemoryError" in why:
        raise ValueError(f"its automaton needs more than {MEMORY >> 30} GiB; {SIMPLER}")
    if "DFA" in why:
        why = "no regular expression that can be compiled (look-around and references to groups cannot)"
    raise ValueError(why)


def _table(index: Index, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An index's transitions by the first `size` tokens, i32[P, V], and where END may follow, bool[P]; it starts at 0."""
    moves, first = index.get_transitions(), index.get_initial_state()
    states = [first, *sorted({*moves, *(s for row in moves.values() for s in row.values())} - {first})]
    if len(states) * size > ENTRIES:
        raise ValueError(f"its automaton has {len(states):,} states, too many for {size:,} tokens; {SIMPLER}")
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
    froms, to = np.repeat(np.arange(P), [len(row) for row in steps]), np.concatenate([*steps, np.zeros(0, np.int64)])
    distance = np.where(matched, 0, P + 1)
    for far in range(P):
        nearer = froms[(distance[to.astype(int)] == far) & (distance[froms] > far + 1)]
        if not len(nearer):
            break
        distance[nearer] = far + 1
    return distance.astype(np.int32)


# What a schema may say, by the keyword that makes it what it is: what else may stand beside that keyword and is enforced.
# The first one that a schema has decides, as in outlines-core, which would pass over the others without a word.
ENFORCED: dict[str, set[str]] = {
    "properties": {"type", "required", "additionalProperties"},
    "anyOf": set(),
    "prefixItems": {"type"},
    "enum": {"type"},
    "const": {"type"},
    "$ref": set(),
    "type": set(),
}
BY_TYPE: dict[str, set[str]] = {
    "string": {"minLength", "maxLength", "format"},
    "array": {"items", "minItems", "maxItems"},
    "object": set(),
    "number": set(),
    "integer": set(),
    "boolean": set(),
    "null": set(),
}
DEFINITIONS = ("$defs", "definitions")
# What does not constrain the text.
NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated"}
COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
FORMS = {"anyOf": list, "prefixItems": list, "enum": list, "required": list, "properties": dict} | dict.fromkeys(
    DEFINITIONS, dict
)
KEYWORDS = {*ENFORCED, *DEFINITIONS, *NOTES}.union(*ENFORCED.values(), *BY_TYPE.values())


def _date() -> str:
    """RFC 3339, section 5.6, `full-date`: years 0000 to 9999, and days that the month has, by appendix C."""
    leap = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
    days = (
        "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
        "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
        "02-(?:0[1-9]|1[0-9]|2[0-8])",
    )
    return f"(?:[0-9]{{4}}-(?:{'|'.join(days)})|{leap}-02-29)"


def _ipv6() -> str:
    """RFC 4291, section 2.2: eight groups; or fewer, with "::" for at least one; the last two may be an IPv4 address."""
    group, ends = "[0-9A-Fa-f]{1,4}", f"(?:[0-9A-Fa-f]{{1,4}}:[0-9A-Fa-f]{{1,4}}|{_IPV4})"
    forms = [f"(?:{group}:){{6}}{ends}"]
    for before in range(8):  # groups before "::"
        head = f"{group}(?::{group}){{{before - 1}}}" if before else ""
        room = 7 - before  # groups that may follow
        tails = [f"(?:{group}:){{0,{room - 2}}}{ends}"] if room >= 2 else []
        tails += [group] if room >= 1 else []
        forms.append(f"{head}::" + (f"(?:{'|'.join(tails)})?" if tails else ""))
    return f"(?:{'|'.join(forms)})"


_IPV4 = "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# `full-time`, with an offset, which RFC 3339 demands. Its leap seconds need a table of those that there were: there is none.
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]+)?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
FORMATS = {  # of a string: the expression of its content, in ASCII and without what JSON would escape
    "date": _date(),
    "time": _TIME,
    "date-time": f"{_date()}T{_TIME}",
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # RFC 9562, section 4
    "ipv4": _IPV4,  # RFC 2673, section 3.2
    "ipv6": _ipv6(),
}


def schema_regex(schema: Any) -> str:
    """A JSON schema -> the regular expression of the JSON texts that obey it, on one line, keys in the schema's order.

    Raises UserError for a keyword, or a format, that would not be enforced.

    >>> schema_regex({"type": "boolean"})
    '(true|false)'
    """
    _check_schema(schema, "schema")
    try:
        return json_schema.build_regex_from_schema(json.dumps(_with_patterns(schema)))
    except (ValueError, RecursionError) as e:
        raise UserError(f"JSON schema: {' '.join(str(e).split())[:200]}") from None


def _with_patterns(schema: Any) -> Any:
    """The schema with an expression of our own in place of each format: outlines-core's are not what their RFCs say."""
    if not isinstance(schema, Mapping):
        return schema
    told: dict[str, Any] = {key: value for key, value in schema.items() if key != "format"}
    if "format" in schema:
        told["pattern"] = f"^{FORMATS[schema['format']]}$"
    for key in ("properties", *DEFINITIONS):
        if key in told:
            told[key] = {name: _with_patterns(part) for name, part in told[key].items()}
    for key in ("anyOf", "prefixItems"):
        if key in told:
            told[key] = [_with_patterns(part) for part in told[key]]
    return {**told, "items": _with_patterns(told["items"])} if "items" in told else told


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, Mapping):
        raise UserError(f"JSON {where} = {shown(schema)}: want an object")
    for key, value in schema.items():
        if key not in KEYWORDS:
            raise UserError(f"JSON {where}: {key!r} would not be enforced; leave it out, or write a regular expression")
        if key in FORMS and not isinstance(value, FORMS[key]):
            raise UserError(
                f"JSON {where}: {key} = {shown(value)}: want {'an object' if FORMS[key] is dict else 'a list'}"
            )
        if key in COUNTS and (type(value) is not int or value < 0):
            raise UserError(f"JSON {where}: {key} = {shown(value)}: a whole number from 0")
    _check_values(schema, where)
    _check_object(schema, where)
    _check_neighbours(schema, where)
    inside = [(key, schema[key].items()) for key in ("properties", *DEFINITIONS) if key in schema]
    inside += [(key, enumerate(schema[key])) for key in ("anyOf", "prefixItems") if key in schema]
    for key, parts in inside:
        for name, part in parts:
            _check_schema(part, f"{where}/{key}/{name}")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}/items")


def _check_values(schema: Mapping, where: str) -> None:
    kind = schema.get("type")
    for value in schema.get("enum", [schema["const"]] if "const" in schema else []):
        if kind is not None and not _is_of_type(value, kind):
            raise UserError(f"JSON {where}: {shown(value)} is not of the type {shown(kind)}")
    if schema.get("format", "date") not in FORMATS:
        raise UserError(f"JSON {where}: format {shown(schema['format'])} is not enforced, only {', '.join(FORMATS)}")
    for what in ("Length", "Items"):
        if schema.get(f"min{what}", 0) > schema.get(f"max{what}", float("inf")):
            raise UserError(f"JSON {where}: min{what} = {schema[f'min{what}']} is above max{what}")


def _check_object(schema: Mapping, where: str) -> None:
    properties = schema.get("properties", {})
    if schema.get("additionalProperties", False) is not False or ("additionalProperties" in schema and not properties):
        raise UserError(f"JSON {where}: additionalProperties can be false, beside properties, and nothing else")
    for name in schema.get("required", []):
        if name not in properties:
            raise UserError(f"JSON {where}: required {name!r} is not among its properties")
    for name in properties:
        if json.dumps(name, ensure_ascii=False) != f'"{name}"':
            raise UserError(f"JSON {where}: the name {name!r} would have to be escaped")


def _check_neighbours(schema: Mapping, where: str) -> None:
    """Raises UserError for a keyword that outlines-core would pass over because of another."""
    main = next((key for key in ENFORCED if key in schema), None)
    kind = schema.get("type") if main in ("type", "properties", "prefixItems") else None
    beside = ENFORCED.get(main, set()) | (
        BY_TYPE.get(kind, set()) if main == "type" and isinstance(kind, str) else set()
    )
    if "format" in schema:
        beside -= {"minLength", "maxLength"}
    if kind is not None and {"properties": "object", "prefixItems": "array"}.get(main, kind) != kind:
        raise UserError(f"JSON {where}: {main!r} would not be enforced beside the type {shown(kind)}")
    for key in schema:
        if key not in {main, *beside, *DEFINITIONS, *NOTES}:
            other = "format" if "format" in beside and "format" in schema else main
            words = f"beside {other!r}" if other else "without a type"
            raise UserError(f"JSON {where}: {key!r} would not be enforced {words}; leave one out")


def _is_of_type(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a schema's type, or of one of several."""
    if isinstance(kind, list):
        return any(_is_of_type(value, one) for one in kind)
    types = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}
    if kind in ("integer", "number"):
        return type(value) is int or (type(value) is float and (kind == "number" or value.is_integer()))
    return isinstance(value, types.get(kind, object) if isinstance(kind, str) else object)
