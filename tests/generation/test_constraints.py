"""Constrained generation: every text matches by `re` or `json`, is drawn as it should be, and ends where it must."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from research.data import tokenizers
from research.data.tokenizers import token_bytes
from research.generation.constraints import from_regex, schema_regex
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
        ({"type": "string", "format": "email"}, "format 'email' is not enforced"),
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
