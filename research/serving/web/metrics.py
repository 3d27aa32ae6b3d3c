"""What Prometheus reads: requests, how long they took, tokens, and the times to the first token and between tokens."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from research.serving.web.served import Models

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """One server's metrics. Routes and models are the only labels: nothing of a request's content."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        histogram = lambda name, text, *labels: Histogram(  # noqa: E731
            name, text, labels, buckets=SECONDS, registry=self.registry
        )
        gauge = lambda name, text: Gauge(name, text, ["model"], registry=self.registry)  # noqa: E731
        self.requests = Counter(
            "almanac_requests", "Answers by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = histogram("almanac_request_seconds", "Seconds from request to whole answer", "route")
        self.tokens = Counter("almanac_tokens", "Tokens read and generated", ["model", "kind"], registry=self.registry)
        self.first = histogram("almanac_time_to_first_token_seconds", "Seconds from request to first token", "model")
        self.between = histogram("almanac_time_between_tokens_seconds", "Seconds between tokens of a request", "model")
        self.slots = gauge("almanac_slots_occupied", "Slots that requests hold")
        self.reused = gauge(
            "almanac_prompt_tokens_reused", "Tokens of prompts that a slot held already, since the start"
        )
        self.queued = gauge("almanac_requests_waiting", "Requests in the queue")

    def text(self, models: Models) -> bytes:
        """The metrics as they are now, in Prometheus' text format."""
        for name, model in models.by_name.items():
            waiting = model.batcher.waiting + (model.engine.waiting if model.engine else 0)
            self.queued.labels(name).set(waiting)
            self.slots.labels(name).set(model.engine.occupied if model.engine else 0)
            self.reused.labels(name).set(model.engine.reused if model.engine else 0)
        return generate_latest(self.registry)


class TokenClock:
    """Measures one generation: `tick` at each token."""

    def __init__(self, metrics: Metrics, model: str, prompt: int):
        self._metrics, self._model, self._last, self._first = metrics, model, time.monotonic(), True
        metrics.tokens.labels(model, "prompt").inc(prompt)

    def tick(self) -> None:
        now = time.monotonic()
        histogram = self._metrics.first if self._first else self._metrics.between
        histogram.labels(self._model).observe(now - self._last)
        self._metrics.tokens.labels(self._model, "generated").inc()
        self._last, self._first = now, False
