"""Constrained generation: every text matches by `re` or `json`, is drawn as it should be, and ends where it must."""

import datetime
import ipaddress
import json
import re
import uuid

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from research.data import tokenizers
from research.data.tokenizers import token_bytes
from research.generation import constraints
from research.generation.constraints import FORMATS, from_regex, schema_regex
from research.generation.decoding import generate, generate_stream
from research.util.errors import UserError

KEY = jax.random.key(0)
VARIABLES = {"params": {"w": jnp.zeros(())}}
PRINTABLE = tokenizers.make("char", "".join(map(chr, range(32, 127))))
SCHEMA = {
    "title": "a person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["x", "yz"]}, "minItems": 1, "maxItems": 3},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "required": ["name", "age", "tags", "when"],
    "additionalProperties": False,
}


class Wild:
    """A model of the decoding protocol that says anything: logits are a function of (row, place)."""

    max_length = 10_000

    def __init__(self, vocab_size, spread=3.0, logits=None):
        self.vocab_size, self.spread, self.fixed = vocab_size, spread, logits

    def init_cache(self, batch, length, dtype):
        return {"index": jnp.zeros((), jnp.int32)}

    def apply(self, variables, tokens, cache):
        B, T = tokens.shape
        if self.fixed is not None:
            logits = jnp.broadcast_to(self.fixed, (B, T, self.vocab_size))
        else:
            at = jnp.broadcast_to(cache["index"][..., None] + jnp.arange(T), (B, T))
            keys = jax.vmap(jax.vmap(jax.random.fold_in), (0, 0))(jax.random.split(KEY, (B, T)), at)
            logits = self.spread * jax.vmap(jax.vmap(lambda k: jax.random.normal(k, (self.vocab_size,))))(keys)
        return logits, {"index": cache["index"] + T}


def texts(tokenizer, constraint, length, rows=48, **settings):
    """What `rows` draws say, END and padding left out."""
    prompt = np.zeros((rows, 2), np.int32)
    settings = {"constraint": constraint, "length": length, "pad": -1} | settings
    drawn = np.asarray(generate(Wild(tokenizer.size), VARIABLES, prompt, KEY, **settings))[:, 2:]
    ends = [int((row >= 0).sum()) for row in drawn]
    assert all((row[n:] == -1).all() for row, n in zip(drawn, ends, strict=True))
    return [tokenizer.decode(row[:n]) for row, n in zip(drawn, ends, strict=True)]


def test_tables_by_hand():
    """(ab)+c? over the tokens a, b, ab, c, and one that is no text."""
    constraint = from_regex("(ab)+c?", [b"a", b"b", b"ab", b"c", b""])
    start = jnp.zeros(1, jnp.int32)
    far = jnp.full(1, 9)

    def drawable(place, left=far):
        return constraint.drawable(place, left)[0].tolist()

    def follow(place, token):
        return constraint.follow(place, jnp.array([token]), far)

    assert drawable(start) == [True, False, True, False, False]
    assert int(constraint.distance[0]) == 1  # "ab"
    assert drawable(start, jnp.zeros(1, jnp.int32)) == [False, False, True, False, False]  # "a" would need another
    inside, whole = follow(start, 0), follow(start, 2)
    assert drawable(inside) == [False, True, False, False, False]
    assert drawable(whole) == [True] * 5  # a match: what leaves it ends it
    assert int(follow(whole, 1)[0]) == -1
    assert int(follow(whole, 0)[0]) == int(inside[0])
    assert bool(constraint.goes_on(whole)[0])
    assert not bool(constraint.goes_on(follow(whole, 3))[0])


@pytest.mark.parametrize(
    "pattern, settings",
    [
        ("[0-9]{3}-[0-9]{4}", {}),
        ("(yes|no|maybe so)", {}),
        ("x?", {}),
        (r"([A-Z][a-z]+ ){1,3}end\.", {"temperature": 0.5, "top_k": 5}),
        ("[a-c]{2,}", {"top_p": 0.7, "repetition_penalty": 2.0}),
        ("(abc)*|[0-9]{19}", {"temperature": 0}),
    ],
)
def test_every_text_matches(pattern, settings):
    said = texts(PRINTABLE, from_regex(pattern, token_bytes.of(PRINTABLE)), 20, **settings)
    assert all(re.fullmatch(pattern, text) for text in said), said


def test_every_script_by_bytes():
    byte = tokenizers.make("byte", "")
    pattern = "[é-ü世界🎉]{2,4}!"
    said = texts(byte, from_regex(pattern, token_bytes.of(byte)), 17)
    assert all(re.fullmatch(pattern, text) for text in said), said


def test_every_text_obeys_the_schema():
    constraint = from_regex(schema_regex(SCHEMA), token_bytes.of(PRINTABLE))
    for text in texts(PRINTABLE, constraint, 90):
        value = json.loads(text)
        assert list(value) == ["name", "age", "tags", "when"]
        assert isinstance(value["name"], str) and len(value["name"]) <= 6
        assert isinstance(value["age"], int)
        assert 1 <= len(value["tags"]) <= 3 and set(value["tags"]) <= {"x", "yz"}
        assert value["when"] is None or re.fullmatch(r"\d{4}-\d\d-\d\d", value["when"])


# Printable ASCII, and digits and letters of other scripts that an expression may take for them.
SCRIPTS = tokenizers.make("char", "".join(map(chr, range(32, 127))) + "٣३３①é\u212a")


def walked(constraint, tokenizer, number, most=64):
    """Texts that end at a full match, each next token drawn from all that the tables allow with equal probability."""
    rng, texts = np.random.default_rng(0), []
    following, kinds, distance = (np.asarray(table) for table in constraint)
    for _ in range(number):
        place, ids = 0, []
        while distance[place] or rng.random() < 0.7:
            after = following[place, kinds]
            allowed = np.flatnonzero((after >= 0) & (distance[after] < most - len(ids)))
            if not len(allowed):
                break
            ids.append(rng.choice(allowed))
            place = int(after[ids[-1]])
        assert distance[place] == 0
        texts.append(tokenizer.decode(np.asarray(ids)))
    return texts


def _moment(text, of):
    """`of.fromisoformat`, which knows no year 0; that is a leap year, as 2000 is."""
    return of.fromisoformat(re.sub("^0000", "2000", text))


def _time(text):
    assert _moment(text, datetime.time).tzinfo is not None  # an offset


def _date_time(text):
    assert text[10] == "T" and _moment(text, datetime.datetime).tzinfo is not None


VALID = {
    "date": lambda text: _moment(text, datetime.date),
    "time": _time,
    "date-time": _date_time,
    "uuid": lambda text: uuid.UUID(text).hex == text.replace("-", "") or pytest.fail(text),
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}


def test_every_format_is_judged():
    assert VALID.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_what_its_standard_says(name):
    constraint = from_regex(schema_regex({"type": "string", "format": name}), token_bytes.of(SCRIPTS))
    said = walked(constraint, SCRIPTS, 400)
    assert len(set(said)) > 390
    for text in said:
        value = json.loads(text)
        assert value.isascii()
        VALID[name](value)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "date",
            ["2024-02-29", "2000-02-29", "1999-12-31", "0000-02-29", "2023-02-28", "0400-02-29", "1996-04-30"],
            [
                "2023-02-29", "1900-02-29", "2100-02-29", "2024-02-30", "2024-04-31", "2024-13-01", "2024-00-10",
                "2024-01-00", "2024-01-32", "24-01-01", "02024-01-01", "2024-1-1", "٢٠٢٤-01-01", "-2024-01-01",
            ],
        ),
        (
            "time",
            ["00:00:00Z", "23:59:59+23:59", "12:30:00.5-05:30", "12:30:00.123456789Z"],
            [
                "24:00:00Z", "12:60:00Z", "12:00:60Z", "12:00:00", "12:00Z", "12:00:00.Z", "12:00:00+24:00",
                "12:00:00+0100", "12:00:00\\.5Z", "12:00:00+01:60", "1:00:00Z",
            ],
        ),
        (
            "date-time",
            ["2024-02-29T23:59:59Z", "1985-04-12T23:20:50.52Z", "1996-12-19T16:39:57-08:00"],
            [
                "2024-02-29T23:59:59", "2023-02-29T00:00:00Z", "12024-02-29T23:59:59Z", "-2024-02-29T23:59:59Z",
                "2024-02-29 23:59:59Z", "2024-02-29",
            ],
        ),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567e89b12d3a456426614174000", "{}", "g" * 36]),
        ("ipv4", ["0.0.0.0", "255.255.255.255", "10.1.99.200"], ["256.1.1.1", "01.1.1.1", "1.1.1", "1.1.1.1.1"]),
        (
            "ipv6",
            ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "2001:DB8::8:800:200c:417a", "::ffff:129.144.52.38", "1::8"],
            [":::", "1:", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::1.2.3", "::1%eth0"],
        ),
    ],
)  # fmt: skip
def test_formats_by_the_examples_of_their_standards(name, right, wrong):
    regex = json.loads(f'"{FORMATS[name]}"')  # nothing in it that JSON would escape
    assert [text for text in right if not re.fullmatch(regex, text)] == []
    assert [text for text in wrong if re.fullmatch(regex, text)] == []


def test_dates_are_those_that_there_are():
    for year in (1895, 1896, 1900, 1999, 2000, 2023, 2024, 2100):
        for month in range(14):
            for day in range(33):
                text = f"{year}-{month:02d}-{day:02d}"
                try:
                    datetime.date.fromisoformat(text)
                    exists = True
                except ValueError:
                    exists = False
                assert bool(re.fullmatch(FORMATS["date"], text)) == exists, text


@pytest.mark.data
def test_byte_pairs_of_gpt2():
    gpt2 = tokenizers.make("gpt2", "")
    pattern = r'\{"city": "[A-Z][a-z]{2,8}", "people": [1-9][0-9]{0,6}\}'
    said = texts(gpt2, from_regex(pattern, token_bytes.of(gpt2)), 30, rows=6)
    assert all(re.fullmatch(pattern, text) for text in said), said


def test_the_text_ends_as_often_as_the_model_would_leave_it():
    """a{1,3} over a, b, c of 1/2, 1/4, 1/4: the first a is forced, then each next one has 1/2, and else it ends."""
    constraint = from_regex("a{1,3}", [b"a", b"b", b"c"])
    model = Wild(3, logits=jnp.log(jnp.array([0.5, 0.25, 0.25])))
    out = generate(model, VARIABLES, np.zeros((4000, 1), np.int32), KEY, length=5, constraint=constraint, pad=-1)
    counts = np.bincount((np.asarray(out)[:, 1:] == 0).sum(1), minlength=4)
    assert counts[0] == 0
    # By chance alone fails for one seed in 10,000; the seed is fixed.
    assert chisquare(counts[1:], 4000 * np.array([1 / 2, 1 / 4, 1 / 4])).pvalue > 1e-4


def test_a_text_with_little_room_goes_where_it_can_end():
    said = texts(PRINTABLE, from_regex("(abc)*|[0-9]{21}", token_bytes.of(PRINTABLE)), 20)
    assert all(re.fullmatch("(abc)*", text) for text in said)


def test_stream_says_the_same_and_nothing_for_the_end():
    constraint = from_regex("[ab]{2}c*", token_bytes.of(PRINTABLE))
    model, prompt = Wild(PRINTABLE.size), [[1], [2, 3]]
    arguments = {"length": 9, "constraint": constraint, "pad": -1}
    whole = np.asarray(generate(model, VARIABLES, prompt, KEY, **arguments))
    columns = np.stack(list(generate_stream(model, VARIABLES, prompt, KEY, block=2, **arguments)), 1)
    for row, held, streamed in zip(whole, (1, 2), columns, strict=True):
        np.testing.assert_array_equal(row[held : held + columns.shape[1]], streamed)
    assert (columns >= 0).any(0).all()
    assert 2 <= columns.shape[1] < 9


@pytest.mark.parametrize(
    "pattern, words",
    [
        ("(", "constraint '(': no regular expression that can be compiled"),
        ("a(?=b)b", "look-around"),
        ("é+", "missing tokens"),
        ("a*b", "no text of this vocabulary matches it"),
    ],
)
def test_bad_patterns(pattern, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        from_regex(pattern, [b"a", b"c"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bounds", "pattern", "words"),
    [
        ({"SECONDS": 1.0}, "[ab]*a[ab]{30}", "it was not compiled in 1 s; write fewer repetitions"),
        ({"SECONDS": 1.0}, r"\w{99}{9}", "it was not compiled in 1 s; write fewer repetitions"),
        ({"MEMORY": 1 << 29, "SECONDS": 600.0}, "[ab]*a[ab]{30}", "its automaton needs more than 0 GiB; write fewer"),
        ({"ENTRIES": 1 << 16}, "[ab]{99}{9}", "its automaton has 893 states, too many for 100 tokens; write fewer"),
    ],
)
def test_an_expression_that_grows_is_told_in_time(monkeypatch, bounds, pattern, words):
    for name, value in bounds.items():
        monkeypatch.setattr(constraints, name, value)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        from_regex(pattern, [bytes([i]) for i in range(32, 132)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["((a*)*)*b", "((a{9}){9}){9}", "(((a|b)*c)*d)*", "[ab]*a[ab]{9}"])
def test_repetitions_inside_one_another_that_do_not_grow(monkeypatch, pattern):
    monkeypatch.setattr(constraints, "SECONDS", 10.0)  # these take tenths of one
    constraint = from_regex(pattern, [b"a", b"b", b"c", b"d"])
    said = walked(constraint, tokenizers.make("char", "abcd"), 5, most=740)
    assert all(re.fullmatch(pattern, text) for text in said)


def test_distances_by_hand():
    """0 -> 1 -> 2 -> 3, a full match; 4 only leads to itself; 1 -> 3 at once."""
    following = np.array([[1, -1], [2, 3], [3, -1], [-1, -1], [4, 4]])
    matched = np.array([False, False, False, True, False])
    assert constraints._distances(following, matched).tolist() == [2, 1, 1, 0, 6]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"length": 2}, "length=2: the shortest text that matches the constraint has 3 tokens"),
        ({"constraint": from_regex("aaa", [b"a", b"b"])}, "constraint for 2 tokens: the model has 3"),
        ({"stop": [[1]]}, "leave stop out"),
    ],
)
def test_bad_arguments(changes, words):
    arguments = {"length": 5, "constraint": from_regex("aaa", [b"a", b"b", b"c"])} | changes
    with pytest.raises(UserError, match=re.escape(words)):
        generate(Wild(3), VARIABLES, [[0]], KEY, **arguments)


@pytest.mark.parametrize(
    "schema, words",
    [
        (3, "JSON schema = 3: want an object"),
        ({"type": "integer", "minimum": 3}, "JSON schema: 'minimum' would not be enforced"),
        *(
            ({"type": "string", "format": name}, f"format {name!r} is not enforced, only date, time, date-time, uuid")
            for name in ("email", "hostname", "uri", "duration", "regex", 3)
        ),
        # What outlines-core passes over without a word.
        ({"type": "string", "format": "date", "maxLength": 3}, "'maxLength' would not be enforced beside 'format'"),
        ({"format": "date"}, "'format' would not be enforced without a type"),
        ({"minLength": 3}, "'minLength' would not be enforced without a type"),
        ({"type": "integer", "maxLength": 3}, "'maxLength' would not be enforced beside 'type'"),
        ({"type": ["string", "null"], "format": "date"}, "'format' would not be enforced beside 'type'"),
        ({"anyOf": [{"type": "null"}], "type": "integer"}, "'type' would not be enforced beside 'anyOf'"),
        ({"$ref": "#/$defs/a", "type": "null", "$defs": {"a": {"type": "null"}}}, "'type' would not be enforced"),
        ({"const": "a", "enum": ["b"]}, "'const' would not be enforced beside 'enum'"),
        ({"enum": [1, "a"], "type": "integer"}, "'a' is not of the type 'integer'"),
        ({"const": None, "type": ["string", "integer"]}, "None is not of the type ['string', 'integer']"),
        ({"prefixItems": [{"type": "null"}], "type": "array", "minItems": 3}, "'minItems' would not be enforced"),
        ({"prefixItems": [{"type": "null"}], "items": {"type": "null"}}, "'items' would not be enforced"),
        (
            {"properties": {"a": {"type": "null"}}, "type": "string"},
            "'properties' would not be enforced beside the type",
        ),
        ({"type": "string", "minLength": "x"}, "minLength = 'x': a whole number from 0"),
        ({"type": "array", "minItems": -1}, "minItems = -1: a whole number from 0"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "minItems = 2 is above maxItems"),
        ({"type": "object", "properties": 5}, "properties = 5: want an object"),
        ({"type": "object", "properties": {}, "required": 5}, "required = 5: want a list"),
        ({"anyOf": {}}, "anyOf = {}: want a list"),
        ({"type": "string", "pattern": ".*"}, "'pattern' would not be enforced"),
        ({"type": "object", "properties": {"a": {"oneOf": []}}}, "JSON schema/properties/a: 'oneOf'"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "required 'a' is not among"),
        ({"type": "object", "properties": {'a"': {"type": "null"}}}, "would have to be escaped"),
        ({"type": "object", "additionalProperties": True}, "additionalProperties can be false"),
        ({"type": "thing"}, "Unsupported type"),
        ({"$ref": "#/$defs/a"}, "reference"),
    ],
)
def test_bad_schemas(schema, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        schema_regex(schema)
    assert "\n" not in str(caught.value)
