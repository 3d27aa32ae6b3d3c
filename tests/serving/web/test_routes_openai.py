"""Language models through OpenAI's own client: its types accept every answer, and every text is that of `almanac sample`."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import openai
import pytest

from research.generation import decoding
from research.serving.web.answers import Answers

PROMPT = "How are you"


@pytest.fixture(scope="module")
def ask(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def sampled(experiments):
    """(prompt, seed, **options) -> what `almanac sample` adds to the prompt."""
    e, variables = experiments["talk"]

    def run(prompt, seed, length, **options):
        tokens = e.tokenizer.encode(prompt)
        rows = decoding.generate(e.model, variables, [tokens], jax.random.key(seed), length=length, **options)
        return e.tokenizer.decode(np.asarray(rows)[0, len(tokens) :])

    return run


@pytest.mark.parametrize(("options", "extra"), [
    ({"temperature": 0.0}, {}),
    ({"temperature": 0.9, "top_p": 0.95}, {"top_k": 40, "repetition_penalty": 1.1}),
])  # fmt: skip
def test_a_completion_is_the_text_of_sample_whole_and_streamed(ask, sampled, options, extra):
    made = dict(model="talk", prompt=PROMPT, max_tokens=12, seed=5, extra_body=extra, **options)
    whole = ask.completions.create(**made)
    assert whole.choices[0].text == sampled(PROMPT, 5, 12, **options, **extra).rstrip("\ufffd")
    assert whole.choices[0].finish_reason == "length"
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (len(PROMPT), 12, len(PROMPT) + 12)
    chunks = list(ask.completions.create(**made, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == "length" and chunks[-1].usage == usage


def test_requests_that_come_and_go_say_what_each_says_alone(ask):
    """There are three slots. Four ask at a time: as many as may wait, should none have a slot yet."""

    def text(seed):
        return ask.completions.create(model="talk", prompt=PROMPT[: seed + 1], max_tokens=20, seed=seed).choices[0].text

    alone = [text(seed) for seed in range(7)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(text, range(7))) == alone
    assert len(set(alone)) == 7


def test_what_comes_again_is_not_generated_again(ask, server, monkeypatch):
    answers = Answers(1000)
    monkeypatch.setattr(server.models["talk"], "answers", answers)
    made = dict(model="talk", prompt=PROMPT, max_tokens=20, logprobs=2)
    first = ask.completions.create(**made, seed=3)
    again = ask.completions.create(**made, seed=3)
    assert answers.hits == 1 and (again.choices, again.usage) == (first.choices, first.usage)
    streamed = ask.completions.create(**made, seed=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == first.choices[0].text and answers.hits == 2
    others = [
        {"seed": 4},
        {"seed": 3, "temperature": 0.5},
        {"seed": 3, "stop": "zz"},
        {"seed": 3, "extra_body": {"top_k": 9}},
    ]
    for other in others:
        ask.completions.create(**{**made, **other})
    for _ in range(2):
        ask.completions.create(**made)  # with a seed of its own
    assert answers.hits == 2
    ask.completions.create(**made, temperature=0)
    ask.completions.create(**made, temperature=0)
    assert answers.hits == 3


def test_stop_is_not_in_the_text(ask):
    made = dict(model="talk", prompt=PROMPT, max_tokens=30, seed=1)
    text = ask.completions.create(**made).choices[0].text
    stop = text[8:10]
    cut = ask.completions.create(**made, stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
    streamed = ask.completions.create(**made, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == cut.text


def test_logprobs_are_those_of_the_model(ask, experiments):
    e, variables = experiments["talk"]
    answer = ask.completions.create(model="talk", prompt=PROMPT, max_tokens=4, temperature=0, logprobs=3).choices[0]
    tokens = e.tokenizer.encode(PROMPT)
    rows = np.asarray(decoding.generate(e.model, variables, [tokens], jax.random.key(0), length=4, temperature=0.0))
    logprobs = np.asarray(jax.nn.log_softmax(jax.jit(e.model.apply)(variables, rows[:, :-1])))[0, len(tokens) - 1 :]
    np.testing.assert_allclose(answer.logprobs.token_logprobs, logprobs.max(-1), atol=1e-4)
    assert all(len(top) <= 3 for top in answer.logprobs.top_logprobs)
    chat = ask.chat.completions.create(
        model="talk", messages=[{"role": "user", "content": "Hi"}], max_tokens=3, logprobs=True, top_logprobs=2
    )
    content = chat.choices[0].logprobs.content
    assert len(content) == 3
    for entry in content:
        assert len(entry.top_logprobs) == 2 and entry.top_logprobs[0].logprob >= max(
            entry.logprob, entry.top_logprobs[1].logprob
        )


def test_chat_is_the_template_and_its_stream_the_same_text(ask, sampled):
    made = dict(model="talk", messages=[{"role": "user", "content": "Hi"}], max_tokens=10, seed=2)
    whole = ask.chat.completions.create(**made)
    assert (
        whole.choices[0].message.role == "assistant" and whole.usage.prompt_tokens == 5
    )  # two markers beside the message
    chunks = list(ask.chat.completions.create(**made, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    rest = ask.chat.completions.create(model="talk", messages=made["messages"], seed=2)
    assert rest.usage.total_tokens == 64 or rest.choices[0].finish_reason == "stop"


def test_response_format_is_enforced(ask):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "yy"]}},
        "required": ["a", "b"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    for seed in range(3):
        answer = ask.chat.completions.create(
            model="talk", messages=[{"role": "user", "content": "Hi"}], max_tokens=50, seed=seed, response_format=form
        ).choices[0]
        value = json.loads(answer.message.content)
        assert isinstance(value["a"], bool) and value["b"] in ("x", "yy") and answer.finish_reason == "stop"


def test_the_clients_errors_are_its_own(ask):
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        ask.completions.create(model="none", prompt="a")
    with pytest.raises(openai.BadRequestError) as caught:
        ask.completions.create(model="talk", prompt="a" * 70)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="context of 64"):
        ask.completions.create(model="talk", prompt="a" * 70, stream=True)


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow(server, monkeypatch):
    """The engine of "talk", with a device that takes 50 ms a token, and counts them."""
    engine = server.models["talk"].engine
    decode = engine.decoder.decode
    engine.tokens = 0

    def slowly(*args):
        engine.tokens += 1
        time.sleep(0.05)
        return decode(*args)

    monkeypatch.setattr(engine, "decoder", engine.decoder._replace(decode=slowly))
    return engine


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(server, slow, stream):
    body = json.dumps({"model": "talk", "prompt": "a", "max_tokens": 60, "stream": stream})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    before = slow.occupied
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall((head + body).encode())
        until(lambda: slow.occupied == 1)
        if stream:
            assert b"200 OK" in raw.recv(4000)
    until(lambda: slow.occupied == before == 0)
    assert slow.tokens < 59


def test_a_full_queue_is_429_with_the_time_to_wait(client, slow):
    body = {"model": "talk", "prompt": "a", "max_tokens": 40}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/completions", json=body), range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused and all(answer.status_code == 429 for answer in refused)
    assert refused[0].headers["Retry-After"] == "1" and refused[0].json()["error"]["code"] == "queue_full"


def test_an_answer_that_takes_too_long_is_504_and_frees_its_slot(client, server, slow, monkeypatch):
    model = server.models["talk"]
    monkeypatch.setattr(model, "_limits", model._limits._replace(seconds=0.2))
    answer = client.post("/v1/completions", json={"model": "talk", "prompt": "a", "max_tokens": 60})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    until(lambda: slow.occupied == 0)


def test_a_model_without_a_template_says_so(client, server, monkeypatch):
    model = server.models["talk"]
    changed = model.servable._replace(language=model.servable.language._replace(template=None))
    monkeypatch.setattr(model, "servable", changed)
    answer = client.post("/v1/chat/completions", json={"model": "talk", "messages": [{"role": "user", "content": "a"}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_chat_template")


def test_nothing_of_a_request_is_logged(client, caplog, capfd):
    caplog.set_level(0)
    client.post("/v1/completions", json={"model": "talk", "prompt": "confidential", "max_tokens": 2})
    client.post("/v1/predict", json={"model": "talk", "inputs": ["confidential"]})
    captured = capfd.readouterr()
    assert "confidential" not in caplog.text + captured.out + captured.err
