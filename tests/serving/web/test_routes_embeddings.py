"""Embeddings through OpenAI's own client: they are the model's own vectors, and only of models that have them."""

import base64
import io

import jax
import numpy as np
import openai
import pytest
from PIL import Image

from research.core import config
from research.run import reopen
from research.serving.servable import from_experiment
from research.serving.web import app, served
from tests.serving.web.conftest import listening

TEXTS = ["What is a module?", "A file of definitions", "import"]


@pytest.fixture(scope="module")
def built():
    """Of texts, two encoders; of pictures, one; and a classifier, which has no embedding."""
    names = {"texts": "retrieval/tiny", "pictures": "verification/tiny", "digits": "image_classification/tiny"}
    made = {name: reopen.build(each, config.load(each, [])) for name, each in names.items()}
    return {name: (e, jax.jit(e.init_fn)(jax.random.key(1))) for name, e in made.items()}


@pytest.fixture(scope="module")
def ask(built):
    limits = served.Limits(max_batch=2, queue=4)
    models = served.of([from_experiment(*each, name, "0") for name, each in built.items()], limits)
    models.start()
    with listening(app.create(models, limits)) as port:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as made:
            yield made


@pytest.mark.parametrize(("options", "method", "name"), [
    ({}, "passages", "passage"),
    ({"extra_body": {"input_type": "query"}}, "questions", "question"),
    ({"encoding_format": "float"}, "passages", "passage"),
])  # fmt: skip
def test_texts_and_their_tokens_have_the_models_vectors(ask, built, options, method, name):
    e, variables = built["texts"]
    rows = e.data.token_rows[name](TEXTS)
    expected = np.asarray(e.model.apply(variables, rows["tokens"], rows["mask"], method=method))
    answer = ask.embeddings.create(model="texts", input=TEXTS, **options)  # by default the client asks for base64
    np.testing.assert_allclose([each.embedding for each in answer.data], expected, atol=1e-5)
    assert [each.index for each in answer.data] == [0, 1, 2]
    tokens = [e.tokenizer.encode(text).tolist() for text in TEXTS]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, tokens))
    again = ask.embeddings.create(model="texts", input=tokens, **options)
    np.testing.assert_allclose([each.embedding for each in again.data], expected, atol=1e-5)
    for alone in (TEXTS[1], tokens[1]):
        (only,) = ask.embeddings.create(model="texts", input=alone, **options).data
        np.testing.assert_allclose(only.embedding, expected[1], atol=1e-5)


def test_base64_is_of_little_endian_floats(ask):
    request = dict(model="texts", input="import")
    raw = ask.embeddings.with_raw_response.create(**request, encoding_format="base64").http_response.json()
    plain = ask.embeddings.with_raw_response.create(**request, encoding_format="float").http_response.json()
    decoded = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, np.array(plain["data"][0]["embedding"], np.float32))


def test_a_picture_has_the_vector_that_the_predictor_gives(ask, built):
    e, variables = built["pictures"]
    pixels = np.random.default_rng(0).integers(0, 256, e.data.shape[:2], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    picture = {"image": base64.b64encode(file.getvalue()).decode()}
    answer = ask.embeddings.create(model="pictures", input=[picture, picture])
    expected = e.predictor.fn(variables, {"image": pixels[None, ..., None].astype(np.float32) / 255})["embedding"]
    np.testing.assert_allclose([each.embedding for each in answer.data], np.repeat(expected, 2, 0), atol=1e-5)
    assert answer.usage.total_tokens == 0


@pytest.mark.parametrize(("request_", "status", "code", "words"), [
    (dict(model="digits", input="a"), 400, "no_embedding", "digits has no embedding"),
    (dict(model="texts", input="import " * 500), 400, "context_length_exceeded", "that this model reads"),
    (dict(model="texts", input=""), 422, "invalid_value", "no token"),
    (dict(model="texts", input=[]), 422, "invalid_value", "input"),
    (dict(model="texts", input=[[]]), 422, "invalid_value", "input"),
    (dict(model="texts", input=[1, 10**6]), 422, "invalid_value", "each in 0.."),
    (dict(model="texts", input=["a"] * 257), 422, "invalid_value", "input"),
    (dict(model="texts", input={"image": "AAAA"}), 422, "invalid_value", "embeds texts"),
    (dict(model="pictures", input="a"), 422, "invalid_value", "embeds pictures"),
    (dict(model="pictures", input={"image": "AAAA"}), 422, "invalid_value", "decoded"),
    (dict(model="texts", input="a", dimensions=3), 422, "unknown_field", "dimensions"),
    (dict(model="texts", input="a", extra_body={"input_type": "x"}), 422, "invalid_value", "want one of passage, query"),
])  # fmt: skip
def test_what_cannot_be_embedded_is_told(ask, request_, status, code, words):
    with pytest.raises(openai.APIStatusError, match=words) as error:
        ask.embeddings.create(**request_)
    assert (error.value.status_code, error.value.code) == (status, code)


def test_the_models_say_what_they_embed(ask):
    assert {card.id: card.embeds for card in ask.models.list()} == {
        "texts": ["passage", "query"],
        "pictures": ["image"],
        "digits": [],
    }
