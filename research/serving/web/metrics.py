"""What Prometheus reads: requests, how long they took, tokens, and the times to the first token and between tokens."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from research.serving.web.served import Models, Served

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
MODEL = ("model", "version")


class Metrics:
    """One server's metrics. Routes and models are the only labels: nothing of a request's content."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        histogram = lambda name, text, *labels: Histogram(  # noqa: E731
            name, text, labels, buckets=SECONDS, registry=self.registry
        )
        gauge = lambda name, text: Gauge(name, text, MODEL, registry=self.registry)  # noqa: E731
        self.requests = Counter(
            "almanac_requests", "Answers by route and status", ["route", *MODEL, "status"], registry=self.registry
        )
        self.seconds = histogram("almanac_request_seconds", "Seconds from request to whole answer", "route", *MODEL)
        self.tokens = Counter("almanac_tokens", "Tokens read and generated", [*MODEL, "kind"], registry=self.registry)
        self.first = histogram("almanac_time_to_first_token_seconds", "Seconds from request to first token", *MODEL)
        self.between = histogram("almanac_time_between_tokens_seconds", "Seconds between tokens of a request", *MODEL)
        self.slots = gauge("almanac_slots_occupied", "Slots that requests hold")
        self.reused = gauge(
            "almanac_prompt_tokens_reused", "Tokens of prompts that a slot held already, since the start"
        )
        self.repeated = gauge("almanac_answers_repeated", "Answers that had been kept, since the start")
        self.queued = gauge("almanac_requests_waiting", "Requests in the queue")

    def text(self, models: Models) -> bytes:
        """The metrics as they are now, in Prometheus' text format."""
        for gauge in (self.queued, self.slots, self.reused, self.repeated):
            gauge.clear()  # of versions that are no longer loaded
        for model in models.loaded:
            waiting = model.batcher.waiting + (model.engine.waiting if model.engine else 0)
            self.queued.labels(*labels(model)).set(waiting)
            self.slots.labels(*labels(model)).set(model.engine.occupied if model.engine else 0)
            self.reused.labels(*labels(model)).set(model.engine.reused if model.engine else 0)
            self.repeated.labels(*labels(model)).set(model.answers.hits)
        return generate_latest(self.registry)


def labels(model: Served | None) -> tuple[str, str]:
    """Those that MODEL names; empty for a request that reached no model."""
    return ("", "") if model is None else (model.servable.name, str(model.number))


class TokenClock:
    """Measures one generation: `tick` at each token."""

    def __init__(self, metrics: Metrics, model: Served, prompt: int):
        self._metrics, self._labels, self._last, self._first = metrics, labels(model), time.monotonic(), True
        metrics.tokens.labels(*self._labels, "prompt").inc(prompt)

    def tick(self) -> None:
        now = time.monotonic()
        histogram = self._metrics.first if self._first else self._metrics.between
        histogram.labels(*self._labels).observe(now - self._last)
        self._metrics.tokens.labels(*self._labels, "generated").inc()
        self._last, self._first = now, False
