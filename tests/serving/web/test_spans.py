"""Traces: what a collector gets of a request, read by OpenTelemetry's own classes."""

import asyncio
import http.server
import threading

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from research.serving.web import app, served, spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # of the W3C's examples


@pytest.fixture
def collector(monkeypatch):
    """A collector of spans: the list of requests that it got."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield got
    server.shutdown()


def values(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def test_a_collector_gets_each_requests_stages(server, collector):
    sender = spans.from_environment()
    transport = httpx2.ASGITransport(app=app.create(server.models, served.Limits(), spans=sender))

    async def ask():
        asked = {"model": "talk", "prompt": "Hello", "max_tokens": 4, "seed": 1}
        header = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [
                await client.post("/v1/completions", json=asked, headers=header),
                await client.post("/v1/predict", json={"model": "none", "inputs": [1]}),
                await client.get("/v1/models"),  # no span
            ]
        return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200, 404, 200]
    sender.close()
    assert {path for path, _ in collector} == {"/v1/traces"}
    (resource,) = [each for _, body in collector for each in body.resource_spans]
    assert values(resource.resource.attributes)["service.name"] == "almanac"
    found = {each.name: each for scope in resource.scope_spans for each in scope.spans}
    assert sorted(found) == ["POST /v1/completions", "POST /v1/predict", "decode", "prefill", "queue"]
    request = found["POST /v1/completions"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    about = values(request.attributes)
    assert about["http.response.status_code"] == 200 and about["almanac.request_id"] == "mine"
    stages = [found[name] for name in ("queue", "prefill", "decode")]
    assert {each.parent_span_id for each in stages} == {request.span_id}
    times = [t for each in stages for t in (each.start_time_unix_nano, each.end_time_unix_nano)]
    assert [request.start_time_unix_nano, *times, request.end_time_unix_nano] == sorted(
        [request.start_time_unix_nano, *times, request.end_time_unix_nano]
    )
    told = values(found["decode"].attributes)
    assert told["gen_ai.request.model"] == "talk" and 1 <= told["gen_ai.usage.output_tokens"] <= 4
    assert values(found["prefill"].attributes)["gen_ai.usage.input_tokens"] == 5
    assert values(found["POST /v1/predict"].attributes)["http.response.status_code"] == 404
    assert b"Hello" not in b"".join(body.SerializeToString() for _, body in collector)  # no content
