"""What `almanac monitor` reports, from a store and its references, as JSON's values."""

import functools
import json
import math
import sqlite3
from typing import Any

import numpy as np

from research.serving.monitor import calibration, performance, reference
from research.serving.monitor.detector import STRIDE, WINDOWS, Detector
from research.serving.monitor.reference import Reference

QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
HISTORY = calibration.REQUESTS // STRIDE  # evaluations that are reported
LATENCIES = ("queue", "prefill", "decode")


def summary(db: sqlite3.Connection) -> dict[str, Any]:
    """Of a `store.merged` database: traffic, errors, latency, memory, and of each model drift, alarms and performance.

    "drift" is None for a model without a reference, with the reason under "note".
    """
    span = db.execute("select min(time), max(time), count(*) from requests").fetchone()
    models = db.execute("select distinct model, version from answers order by 1, 2").fetchall()
    return {
        "first": span[0], "last": span[1], "requests": span[2],
        "routes": [_route(db, *row) for row in db.execute("select route, status, count(*) from requests group by 1, 2")],
        "servers": _servers(db),
        "models": [_model(db, *model) for model in models],
    }  # fmt: skip


def _servers(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Of each server: its memory now and at most, in MB, and the requests that it did not record."""
    newest = (
        "select server, max(time), memory, dropped from servers group by server"  # SQLite takes the row of the maximum
    )
    most = dict(db.execute("select server, max(memory) from servers group by server").fetchall())
    return [
        {"server": server, "memory_mb": memory / 2**20, "peak_mb": most[server] / 2**20, "dropped": dropped}
        for server, _, memory, dropped in db.execute(newest)
    ]


def _route(db: sqlite3.Connection, route: str, status: int, count: int) -> dict[str, Any]:
    rows = db.execute("select seconds from requests where route = ? and status = ?", (route, status))
    return {"route": route, "status": status, "requests": count, "seconds": _quantiles([row[0] for row in rows])}


def _model(db: sqlite3.Connection, name: str, version: str) -> dict[str, Any]:
    where, key = "from answers where model = ? and version = ?", (name, version)
    about: dict[str, Any] = {"model": name, "version": version}
    count, prompt, generated, fill = db.execute(
        f"select count(*), sum(prompt), sum(generated), avg(fill) {where}", key
    ).fetchone()
    about |= {"answers": count, "prompt_tokens": prompt, "generated_tokens": generated, "batch_fill": fill}
    for part in (*LATENCIES, "confidence"):
        about[part] = _quantiles([x for (x,) in db.execute(f"select {part} {where}", key) if x is not None])
    return about | _drift(db, name, version) | {"performance": performance.measure(db, name, version)}


def _quantiles(values: list[float]) -> dict[str, float] | None:
    return {name: float(np.quantile(values, at)) for name, at in QUANTILES.items()} if values else None


def _drift(db: sqlite3.Connection, name: str, version: str) -> dict[str, Any]:
    row = db.execute("select layout, reference from models where name = ? and version = ?", (name, version)).fetchone()
    if row is None or row[1] is None:
        return {"drift": None, "note": "no reference: export the run again as a bundle, and serve that"}
    layout, (held_out, detector, limits) = json.loads(row[0]), _calibrated(row[1])
    if not layout.keys() >= set(detector.names):
        return {"drift": None, "note": "the reference is of other signals than the requests: export the run again"}
    found, times = _signals(db, name, version, layout)
    if len(times) < min(WINDOWS):
        return {"drift": None, "note": f"{len(times)} requests; drift is told from {min(WINDOWS)} on"}
    values = detector.statistics(detector.encode(found))
    ends = times[STRIDE - 1 :: STRIDE][: len(values)]
    drift = [
        {
            "signal": part.name, "statistic": part.statistic, "window": window,
            "value": _finite(values[-1, w, j]), "limit": float(limits[w, j]),
            "history": [_finite(x) for x in values[-HISTORY:, w, j]],
        }
        for w, window in enumerate(WINDOWS) if window <= len(times)
        for j, part in enumerate(detector.parts)
    ]  # fmt: skip
    at_export = {"rows": len(detector.features), "performance": performance.at_export(held_out)}
    return {"at_export": at_export, "drift": drift, "alarms": _episodes(detector, values > limits, ends)}


def _signals(
    db: sqlite3.Connection, name: str, version: str, layout: dict[str, int]
) -> tuple[dict[str, np.ndarray], list[float]]:
    """{signal: f32[T, k]} of a model's answers in the order of their times, and those."""
    size = 4 * sum(layout.values())
    rows = db.execute(
        "select signals, time from answers where model = ? and version = ? and length(signals) = ? order by time, id, row",
        (name, version, size),
    ).fetchall()
    numbers = np.frombuffer(b"".join(row[0] for row in rows), "<f4").reshape(len(rows), -1)
    found, first = {}, 0
    for signal, count in layout.items():
        found[signal], first = numbers[:, first : first + count], first + count
    return found, [row[1] for row in rows]


def _episodes(detector: Detector, alarms: np.ndarray, ends: list[float]) -> list[dict[str, Any]]:
    """Alarms bool[T, W, J] -> one entry for each stretch of evaluations with an alarm, with what raised it first."""
    episodes: list[dict[str, Any]] = []
    before = False
    for step, now in enumerate(alarms):
        raised = [(window, detector.names[j]) for w, window in enumerate(WINDOWS) for j in np.flatnonzero(now[w])]
        if raised and not before:
            episodes.append({"time": ends[step], "request": (step + 1) * STRIDE, "signals": {}})
        if raised:
            for window, signal in raised:
                episodes[-1]["signals"].setdefault(signal, window)
            episodes[-1] |= {"until": ends[step], "stands": step == len(alarms) - 1}
        before = bool(raised)
    return episodes


@functools.lru_cache(8)  # `--watch` asks again and again
def _calibrated(blob: bytes) -> tuple[Reference, Detector, np.ndarray]:
    held_out = reference.from_bytes(blob)
    detector = Detector(held_out)
    return held_out, detector, calibration.calibrate(detector)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
