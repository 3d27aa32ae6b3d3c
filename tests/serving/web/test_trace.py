"""Every answer names its request, and the observer gets what each asked for."""

import asyncio

import httpx2
import numpy as np
import pytest

from research.serving.web import app, served


class Recorder:
    """An observer that keeps the records."""

    captures = False

    def __init__(self):
        self.records = []

    def put(self, record):
        self.records.append(record)


@pytest.fixture
def ask(server):
    """ask(path, json, headers) -> answer, the record of it. The models are those of the running server."""
    recorder = Recorder()
    made = app.create(server.models, served.Limits(), observer=recorder)

    def post(path, json, headers=None):
        async def call():
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=made), base_url="http://test") as client:
                return await client.post(path, json=json, headers=headers or {})

        answer = asyncio.run(call())
        return answer, recorder.records[-1]

    return post


def test_rows_are_recorded_with_their_outputs_and_times(ask):
    inputs = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    answer, record = ask("/v1/predict", {"model": "digits", "inputs": inputs.tolist()})
    assert answer.status_code == 200 and answer.headers["x-request-id"] == record.id
    assert (record.route, record.status, len(record.parts)) == ("/v1/predict", 200, 2)
    for part, given in zip(record.parts, inputs, strict=True):
        np.testing.assert_array_equal(part.inputs["image"][0], given)
        assert part.outputs["probabilities"].shape == (1, 10)
        assert part.timing.came <= part.timing.began <= part.timing.first
        assert part.timing.fill in (0.5, 1)  # of two rows


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_is_recorded_token_by_token(ask, stream):
    body = {"model": "talk", "prompt": "Hello", "max_tokens": 4, "seed": 1, "stream": stream}
    answer, record = ask("/v1/completions", body)
    assert answer.status_code == 200 and answer.headers["x-request-id"] == record.id
    (part,) = record.parts
    assert (part.prompt, record.status) == (5, 200)  # bytes of the prompt
    assert 1 <= len(part.logprobs) <= 4 and max(part.logprobs) <= 0
    assert part.timing.came <= part.timing.began <= part.timing.first <= part.timing.ended


def test_a_refusal_is_recorded_too(ask):
    answer, record = ask("/v1/predict", {"model": "nobody", "inputs": [1]})
    assert answer.status_code == record.status == 404
    assert answer.headers["x-request-id"] == record.id and record.parts == []


@pytest.mark.parametrize("given", ["order-4721", "a" * 64, "A.b_c-9"])
def test_a_clients_own_id_is_taken(ask, given):
    answer, record = ask("/v1/predict", {}, {"x-request-id": given})
    assert answer.headers["x-request-id"] == record.id == given


@pytest.mark.parametrize("given", ["", "a" * 65, "two words", "<script>", "a,b"])
def test_an_id_that_could_do_harm_is_replaced(ask, given):
    answer, record = ask("/v1/predict", {}, {"x-request-id": given})
    assert answer.headers["x-request-id"] == record.id != given
    assert len(record.id) == 32


def test_without_an_observer_answers_have_ids_too(client):
    first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second
