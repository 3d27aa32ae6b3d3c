"""Requests as spans of OpenTelemetry: one for each, and within it the queue, the computation, and a text's tokens.

A request's name and attributes are those of its semantic conventions for HTTP servers; models and counts of tokens have the names
of those for generative models. No span has any content.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

from research.serving.monitor.record import Record, Rows, Text
from research.util.errors import UserError

SERVICE = "OTEL_SERVICE_NAME"
PARENT = "traceparent"  # the header of a client's own trace (W3C Trace Context)
Stage = tuple[str, float | None, float | None, dict[str, Any]]  # name, start and end by time.monotonic, attributes


class Spans:
    """Makes spans of records, once they have been answered, and hands them to a tracer provider, which sends them in a thread."""

    def __init__(self, provider: Any):
        """`provider` is an opentelemetry.sdk.trace.TracerProvider."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace, self._provider, self._tracer = trace, provider, provider.get_tracer("almanac")
        self._context_of = TraceContextTextMapPropagator().extract

    def put(self, record: Record) -> None:
        """Never waits: the provider drops what does not fit its queue."""
        ahead = time.time() - time.monotonic()

        def at(moment: float) -> int:
            return round((moment + ahead) * 1e9)

        ended = record.started + record.seconds
        span = self._tracer.start_span(
            f"{record.method} {record.route}",
            self._context_of({PARENT: record.parent}),
            self._trace.SpanKind.SERVER,
            {
                "http.request.method": record.method,
                "http.route": record.route,
                "http.response.status_code": record.status,
                "almanac.request_id": record.id,
            },
            start_time=at(record.started),
        )
        within = self._trace.set_span_in_context(span)
        for name, start, end, attributes in _stages(record):
            if start is not None and end is not None:
                self._tracer.start_span(name, within, attributes=attributes, start_time=at(start)).end(at(end))
        if record.status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(at(ended))

    def close(self) -> None:
        """Sends what is waiting."""
        self._provider.shutdown()


def _stages(record: Record) -> Iterator[Stage]:
    for part in record.parts:
        if not isinstance(part, Rows | Text):
            continue
        timing = part.timing
        about = {
            "gen_ai.request.model": part.servable.name,
            "almanac.version": part.servable.version,
        }
        yield "queue", timing.came, timing.began, about
        if isinstance(part, Rows):
            yield "predict", timing.began, timing.first, {**about, "almanac.rows": part.answered}
        else:
            tokens = {"gen_ai.usage.input_tokens": part.prompt}
            yield "prefill", timing.began, timing.first, {**about, **tokens}
            yield "decode", timing.first, timing.ended, {**about, "gen_ai.usage.output_tokens": len(part.logprobs)}


def from_environment() -> Spans:
    """Spans that are sent by OTLP over HTTP to where OpenTelemetry's own variables say: OTEL_EXPORTER_OTLP_ENDPOINT, for one.

    Raises UserError if the libraries are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise UserError("--traces needs other packages: pip install 'almanac[serve]'") from None
    provider = TracerProvider(resource=Resource.create({} if SERVICE in os.environ else {"service.name": "almanac"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)
