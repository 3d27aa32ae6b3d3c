"""The server as a client sees it: predictions, what it says of itself, and its answers to bad requests."""

import base64
import dataclasses
import io
import json
import logging
import select
import socket
import zlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image


def png(size=(8, 8)):
    file = io.BytesIO()
    Image.new("L", size, 128).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def bomb():
    """A picture of 50,000 x 50,000 pixels, by its header."""
    chunk = lambda kind, data: len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")  # noqa: E731
    header = (50_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    blob = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return base64.b64encode(blob).decode()


def test_a_prediction_is_that_of_the_experiment(client, experiments):
    e, variables = experiments["digits"]
    pictures = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    answer = client.post("/v1/predict", json={"model": "digits", "inputs": pictures.tolist()})
    assert answer.status_code == 200
    for picture, output in zip(pictures, answer.json()["outputs"], strict=True):
        expected = e.predictor.codec.decode(
            jax.device_get(e.predictor.fn(variables, e.predictor.codec.encode(picture)))
        )
        assert output["class"] == expected["class"]
        assert output["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-4)


def test_an_image_and_its_array_are_predicted_alike(client):
    inputs = [{"image": png()}, {"image": f"data:image/png;base64,{png()}"}, np.full((8, 8, 1), 128 / 255).tolist()]
    outputs = client.post("/v1/predict", json={"model": "digits", "inputs": inputs}).json()["outputs"]
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_request_may_have_more_values_than_the_queue(client, server):
    inputs = [{"image": png()}] * (3 * server.limits.queue)
    answer = client.post("/v1/predict", json={"model": "digits", "inputs": inputs})
    assert answer.status_code == 200 and len(answer.json()["outputs"]) == len(inputs)


def test_open_inference_protocol_has_the_same_numbers(client, experiments):
    e, variables = experiments["digits"]
    image = np.random.default_rng(1).random((2, 8, 8, 1)).astype(np.float32)
    tensor = {"name": "image", "shape": [2, 8, 8, 1], "datatype": "FP32", "data": image.ravel().tolist()}
    answer = client.post("/v2/models/digits/infer", json={"inputs": [tensor], "id": "7"}).json()
    logits = next(y for y in answer["outputs"] if y["name"] == "logits")
    assert (answer["id"], logits["shape"], logits["datatype"]) == ("7", [2, 10], "FP32")
    expected = np.ravel(e.predictor.fn(variables, {"image": image})["logits"])
    np.testing.assert_allclose(logits["data"], expected, atol=1e-5)
    described = client.get("/v2/models/digits").json()
    assert described["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert {"name": "logits", "datatype": "FP32", "shape": [-1, 10]} in described["outputs"]
    assert client.get("/v2/models/talk").json()["outputs"][0]["shape"][:2] == [-1, -1]


def test_open_lengths_of_a_causal_model_are_padded_and_change_nothing(client, server, experiments):
    e, variables = experiments["talk"]
    assert server.models["talk"].batcher.programs.pads
    outputs = client.post("/v1/predict", json={"model": "talk", "inputs": ["Hello", "Who are you"]}).json()["outputs"]
    for text, output in zip(["Hello", "Who are you"], outputs, strict=True):
        expected = e.predictor.codec.decode(jax.device_get(e.predictor.fn(variables, e.predictor.codec.encode(text))))
        assert output["next"] == pytest.approx(expected["next"], abs=2e-4)


def test_it_says_that_it_lives_what_it_serves_and_how_it_does(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert (cards["talk"]["context"], cards["talk"]["chat"], cards["digits"]["generates"]) == (64, True, False)
    assert client.get("/v1/models/digits").json()["version"] == "digits@0"
    client.post("/v1/completions", json={"model": "talk", "prompt": "a", "max_tokens": 3})
    text = client.get("/metrics").text
    assert 'almanac_requests_total{model="talk",route="/v1/completions",status="200",version="1"}' in text
    assert 'almanac_requests_total{model="",route="/healthz",status="200",version=""}' in text
    for name in ("almanac_time_to_first_token_seconds", "almanac_time_between_tokens_seconds"):
        assert f'{name}_count{{model="talk",version="1"}}' in text
    paths = client.get("/openapi.json").json()["paths"]
    example = paths["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {"/v1/completions", "/v2/models/{name}/infer"} <= paths.keys() and "image" in example


PREDICT, COMPLETE, CHAT, INFER = "/v1/predict", "/v1/completions", "/v1/chat/completions", "/v2/models/digits/infer"
TENSOR = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": [0.5] * 64}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "a"}}}
BAD = {  # name -> route, body, status, code, words of the message
    "unknown model": (PREDICT, {"model": "dogs", "inputs": ["a"]}, 404, "model_not_found", "known: talk, digits"),
    "unknown field": (PREDICT, {"model": "digits", "inputs": ["a"], "top": 1}, 422, "unknown_field", "top: "),
    "missing field": (PREDICT, {"model": "digits"}, 422, "missing_field", "inputs: "),
    "a list as the body": (PREDICT, [1], 400, "invalid_json", "no JSON object"),
    "no values": (PREDICT, {"model": "digits", "inputs": []}, 422, "invalid_value", "at least 1"),
    "a text to an image model": (PREDICT, {"model": "digits", "inputs": ["dog"]}, 422, "invalid_value", ""),
    "numbers to a text model": (PREDICT, {"model": "talk", "inputs": [1.5]}, 422, "invalid_value", "numbers is not what"),
    "an empty text": (PREDICT, {"model": "talk", "inputs": [""]}, 422, "invalid_value", "empty"),
    "ragged numbers": (PREDICT, {"model": "digits", "inputs": [[[1], [1, 2]]]}, 422, "invalid_value", "equal lengths"),
    "true": (PREDICT, {"model": "digits", "inputs": [True]}, 422, "invalid_value", "want a text"),
    "an image that is none": (PREDICT, {"model": "digits", "inputs": [{"image": "AAAA"}]}, 422, "invalid_value", "decoded"),
    "no base64": (PREDICT, {"model": "digits", "inputs": [{"image": "%"}]}, 422, "invalid_value", "no base64"),
    "half an image": (PREDICT, {"model": "digits", "inputs": [{"image": png()[:60]}]}, 422, "invalid_value", "decoded"),
    "an image bomb": (PREDICT, {"model": "digits", "inputs": [{"image": bomb()}]}, 422, "invalid_value", "pixels"),
    "an unknown input": (INFER, {"inputs": [{**TENSOR, "name": "x"}]}, 422, "invalid_value", "'image' is missing"),
    "a wrong shape": (INFER, {"inputs": [{**TENSOR, "shape": [1, 64, 1, 1]}]}, 422, "invalid_value", "want float32[b, 8, 8, 1]"),
    "a shape of other data": (INFER, {"inputs": [{**TENSOR, "shape": [2, 8, 8, 1]}]}, 422, "invalid_value", "not FP32"),
    "a wrong dtype": (INFER, {"inputs": [{**TENSOR, "datatype": "INT32", "data": [1] * 64}]}, 422, "invalid_value", "int32"),
    "halves as whole numbers": (INFER, {"inputs": [{**TENSOR, "datatype": "INT32"}]}, 422, "invalid_value", "not INT32"),
    "texts as numbers": (INFER, {"inputs": [{**TENSOR, "data": ["a"] * 64}]}, 422, "invalid_value", "not FP32"),
    "a datatype that is none": (INFER, {"inputs": [{**TENSOR, "datatype": "FP8"}]}, 422, "invalid_value", "want one of"),
    "too many rows": (INFER, {"inputs": [{**TENSOR, "shape": [3, 8, 8, 1], "data": [0] * 192}]}, 422, "invalid_value", "1 to 2"),
    "no text model": (COMPLETE, {"model": "digits", "prompt": "a"}, 400, "no_text_model", "/v1/predict"),
    "an empty prompt": (COMPLETE, {"model": "talk", "prompt": ""}, 422, "invalid_value", "no token"),
    "a long prompt": (COMPLETE, {"model": "talk", "prompt": "a" * 90}, 400, "context_length_exceeded", "context of 64"),
    "a long answer": (COMPLETE, {"model": "talk", "prompt": "a", "max_tokens": 64}, 400, "context_length_exceeded", "64"),
    "tokens out of range": (COMPLETE, {"model": "talk", "prompt": [1, 999]}, 422, "invalid_value", "each in 0..259"),
    "huge tokens": (COMPLETE, {"model": "talk", "prompt": [2**70]}, 422, "invalid_value", "less than"),
    "temperature": (COMPLETE, {"model": "talk", "prompt": "a", "temperature": -1}, 422, "invalid_value", "temperature: "),
    "top_p": (COMPLETE, {"model": "talk", "prompt": "a", "top_p": 0}, 422, "invalid_value", "top_p: "),
    "false as a token": (COMPLETE, {"model": "talk", "prompt": [False]}, 422, "invalid_value", "prompt"),
    "true as a number": (COMPLETE, {"model": "talk", "prompt": "a", "min_p": True}, 422, "invalid_value", "min_p"),
    "an empty stop": (COMPLETE, {"model": "talk", "prompt": "a", "stop": ""}, 422, "invalid_value", "stop"),
    "several answers": (COMPLETE, {"model": "talk", "prompt": "a", "n": 2}, 422, "invalid_value", "n: "),
    "a schema beyond": (CHAT, {"model": "talk", "messages": [{"role": "user", "content": "a"}], "response_format": SCHEMA},
                        422, "invalid_value", "'pattern' would not be enforced"),
    "no messages": (CHAT, {"model": "talk", "messages": []}, 422, "invalid_value", "messages: "),
    "an unknown role": (CHAT, {"model": "talk", "messages": [{"role": "x", "content": "a"}]}, 422, "invalid_value", "role x"),
    "no such page": ("/v1/nothing", {}, 404, "not_found", "Not Found"),
    "a wrong method": ("/healthz", {}, 405, "method_not_allowed", "Method"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_one_clear_sentence(client, name):
    route, body, status, code, words = BAD[name]
    answer = client.post(route, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"] and "\n" not in error["message"]
    assert not any(word in answer.text for word in ("Traceback", "/work", "site-packages", ".py"))


def test_the_description_has_both_forms_of_a_text(client):
    post = client.get("/openapi.json").json()["paths"]["/v1/completions"]["post"]
    for stream in (False, True):
        answer = client.post(
            "/v1/completions", json={"model": "talk", "prompt": "a", "max_tokens": 1, "stream": stream}
        )
        assert answer.headers["content-type"].split(";")[0] in post["responses"]["200"]["content"]


def test_the_description_has_the_errors_as_they_are(client):
    answer, described = client.post("/healthz"), client.get("/openapi.json").json()
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")  # RFC 9110, section 15.5.6
    assert all(
        {"4XX", "5XX"} <= each["responses"].keys() for path in described["paths"].values() for each in path.values()
    )
    assert described["components"]["schemas"]["Fault"]["properties"].keys() == answer.json()["error"].keys()


@pytest.mark.parametrize(("blob", "words"), [
    (b"{", "no JSON"), (b"", "inputs"), (b"\xff\xfe", "JSON"), (b"[" * 100_000, "body"), (b'"a"', "no JSON object"),
])  # fmt: skip
def test_a_body_that_is_no_request(client, blob, words):
    answer = client.post(PREDICT, content=blob, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error"]["message"]


def test_numbers_that_are_not_finite_are_refused(client):
    for route, body, words in (
        (PREDICT, {"model": "digits", "inputs": [np.full((8, 8, 1), np.nan).tolist()]}, "not nan"),
        (INFER, {"inputs": [{**TENSOR, "data": [np.inf] * 64}]}, "not finite"),
        (COMPLETE, {"model": "talk", "prompt": "a", "temperature": np.nan}, "temperature: "),
    ):
        answer = client.post(route, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422 and words in answer.json()["error"]["message"]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_beyond_the_bound_is_not_read(client, declared):
    content = b"x" * 300_000 if declared else (b"x" * 1000 for _ in range(300))
    answer = client.post(PREDICT, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_what_nobody_expected_is_told_without_its_text(client, server, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret of the request")

    servable = server.models["digits"].servable
    codec = SimpleNamespace(encode=servable.predictor.codec.encode, decode=fail)
    changed = servable._replace(predictor=dataclasses.replace(servable.predictor, codec=codec))
    monkeypatch.setattr(server.models["digits"], "servable", changed)
    with caplog.at_level(logging.INFO):
        answer = client.post(PREDICT, json={"model": "digits", "inputs": [{"image": png()}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "RuntimeError at" in caplog.text and "secret" not in caplog.text + answer.text


def test_more_requests_than_the_bound_are_429(client):
    """Of seventeen bodies that do not end, sixteen are waited for."""
    port, head = client.base_url.port, b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(17)]
    for raw in slow:
        raw.sendall(head)
    (refused, *others), _, _ = select.select(slow, [], [], 60)
    answer = refused.recv(1000).lower()
    assert answer.startswith(b"http/1.1 429 ") and b"\r\nretry-after: 1\r\n" in answer and not others
    assert client.get("/healthz").status_code == 200
    for raw in slow:
        raw.close()
    ask = lambda: client.post(PREDICT, json={"model": "digits", "inputs": [{"image": png()}]})  # noqa: E731
    next(answer for answer in iter(ask, None) if answer.status_code == 200)  # those that left count no more


def test_a_connection_that_says_nonsense_harms_nobody(client, server):
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert b"400" in raw.recv(1000)
    assert client.get("/healthz").status_code == 200
