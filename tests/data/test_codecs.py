"""Codecs as JSON, there and back. Every family's own are compared in tests/contract."""

import dataclasses
import json

import numpy as np
import pytest

from research.data import codecs, tokenizers
from research.data.latents import Latent
from research.data.text.classification import Encoder, TextClass
from research.util.errors import UserError


def test_there_and_back_through_a_file():
    tokenizer = tokenizers.make("word", "the cat and the dog")
    codec = TextClass(Encoder(tokenizer, "joulin", length=3, keep="tail"), ("no", "yes"))
    back = codecs.from_json(json.loads(json.dumps(codecs.to_json(codec))))
    assert back.classes == ("no", "yes") and back.inputs == codec.inputs and back.constraints == ("t <= 3",)
    for text in ("The cat, and THE dog!", "bird"):
        np.testing.assert_array_equal(back.encode(text)["tokens"], codec.encode(text)["tokens"])
    assert codecs.to_json(back) == codecs.to_json(codec)


def test_what_is_not_registered_is_not_stored():
    @dataclasses.dataclass(frozen=True)
    class Own(Latent):
        pass

    for value in (Own(3), {"a": 1}, np.zeros(2)):
        with pytest.raises(TypeError, match="cannot be stored"):
            codecs.to_json(value)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"$codec": "latentt", "size": 3}, "there is no codec 'latentt'; did you mean 'latent'"),
        ({"$codec": "latent", "sise": 3}, "no codec of this version"),
        ({"$codec": "latent"}, "no codec of this version"),
        ({"size": 3}, "no codec of this version"),
        ({"$codec": "text_encoder", "tokenizer": {"$tokenizer": {"name": "os.system"}}}, "no codec of this version"),
    ],
)
def test_what_is_none_is_named(stored, message):
    with pytest.raises(UserError, match=message):
        codecs.from_json(stored)
