"""A stage says of many values what the model says of each by itself."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from research.core import config
from research.core.experiment import Codec, Predictor
from research.run import reopen
from research.serving import servable, stage
from research.serving.servable import Servable
from research.serving.stage import MOST_ROWS
from research.util.errors import UserError


def random(name):
    """An experiment with random weights -> it, its variables, and its stage."""
    e = reopen.build(name.partition("/")[0], config.load(name, []))
    variables = jax.jit(e.init_fn)(jax.random.key(0))
    return e, variables, stage.of(servable.from_experiment(e, variables, name="model", version="0"), length=4)


class Numbers(Codec):
    """Numbers <-> their squares; each number is a row."""

    takes, gives, inputs = "numbers", "numbers", {"x": (("b",), "float32")}

    def encode(self, value):
        return {"x": np.array(value, np.float32)}

    def decode(self, outputs):
        return {"squares": outputs["y"].tolist()}

    def handed_on(self, value, decoded):
        return decoded["squares"]


def test_values_of_several_rows_in_several_batches():
    sizes = []

    def fn(variables, inputs):
        sizes.append(inputs["x"].shape[0])
        return {"y": inputs["x"] ** 2}

    squares = stage.of(Servable("squares", "0", Predictor(fn, Numbers()), {}), length=1)
    values = [[float(i)] * (1 + i % 7) for i in range(MOST_ROWS)]
    outputs = squares([*values, [1.0] * (MOST_ROWS + 1), "no numbers"])
    assert [output.value for output in outputs[:-2]] == [[x**2 for x in value] for value in values]
    assert [str(error) for error in outputs[-2:]] == [
        "33 rows: want 1 to 32", "a text is not what this model takes; its inputs are x"
    ]  # fmt: skip
    assert max(sizes) == MOST_ROWS < sum(map(len, values))


def test_texts_of_other_lengths_as_one_by_one():
    e, variables, classes = random("text_classification/tiny")
    texts = ["the try statement and its except clauses", "if", ""]
    *outputs, error = classes(texts)
    fn, codec = jax.jit(e.predictor.fn), e.predictor.codec
    for text, output in zip(texts, outputs, strict=False):
        record = codec.decode(jax.device_get(fn(variables, codec.encode(text))))
        assert output.value == output.record["class"] == record["class"]
        assert output.record["probabilities"] == pytest.approx(record["probabilities"], abs=2e-4)
    assert isinstance(error, UserError) and "the text is empty" in str(error)


def test_generating_as_sample_does():
    e, variables, generating = random("language_model/tiny")
    assert (generating.takes, generating.gives) == ("text", "text")
    short, empty, unknown, long = generating(["a state", " ", "a\N{SNOWMAN}", "the " * 10])
    state = SimpleNamespace(variables=variables)
    sampled = e.sample(e, state, jax.random.key(0), prompt="a state", length=4, temperature=0.0)
    assert "a state" + short.value == "".join(sampled) and len(short.value) == 4
    assert short.record == {"text": short.value}
    assert all(isinstance(output, UserError) for output in (empty, unknown, long))
    assert "no text to continue" in str(empty) and "40 tokens" in str(long)
