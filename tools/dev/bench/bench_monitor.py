"""`almanac benchmark monitor RUN ...`: false alarms of the monitor on stationary requests, and its delay for each shift.

Held-out rows of a run are split at random, again and again, into a reference and the rows that requests are drawn from: no row
is in both. With each reference limits are set anew, and streams of 10,000 requests without a shift are counted that have
any alarm. A shift of all requests, or of 1 in 10, begins after 1,000; its delay is the number of requests from there to the first
alarm, with all windows and with each alone. Two others stand beside it: a detector that always fires, and textbook limits of
each test alone.

Pictures are inverted, made noisy (Gaussian, 0.3) or moved by an eighth of their width. Texts become source code of Python's
standard library and, where Multi30k is in $ALMANAC_MIRROR, German: pieces of as many tokens, so that length tells nothing.
"""

import argparse
import gzip
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

from experiments import options
from research.core.experiment import Experiment
from research.run import reopen
from research.serving.monitor import calibration, signals
from research.serving.monitor.detector import STRIDE, WINDOWS, Detector
from research.serving.monitor.reference import MOST, Reference
from research.util.errors import UserError
from research.util.files import write_json
from tools.root import ROOT

RESULTS = ROOT / "tools" / "monitor_results.json"  # of which docs/monitoring.md has the tables
BEFORE, AFTER = 1_000, 5_000  # requests before a shift, and after it
SHIFTED = 2  # streams with each shift, for each reference
SHARES = {"": 1.0, ", 1 in 10": 0.1}  # of the requests after the shift's beginning that it changes
NOISE = 0.3
PSI_LIMIT, KS_FACTOR = 0.2, 1.358  # the rule of thumb, and the asymptotic 5 % of a two-sample test

Arrays = Mapping[str, np.ndarray]


def measure(folder: str, references: int, streams: int) -> dict[str, Any]:
    """The results of one run: `streams` stationary streams for each of `references` references."""
    e, state, _ = reopen.load(folder, "last")
    clean, shifted = _rows(e, state.variables)
    count = len(next(iter(clean.values())))
    size = min(MOST, count // 2)
    rng = np.random.default_rng(0)
    alarms: dict[str, list] = {"monitor": [], "textbook": [], "always": []}
    delays: dict[str, list] = {name + words: [] for name in shifted for words in SHARES}
    for number in range(references):
        order = rng.permutation(count)
        detector = Detector(Reference(_take(clean, order[:size])))
        limits = calibration.calibrate(detector, seed=number)
        pool = detector.encode(_take(clean, order[size:]))
        textbook = _textbook(detector)
        for _ in range(streams):
            values = detector.statistics(_draw(pool, calibration.REQUESTS, rng))
            alarms["monitor"].append(bool((values > limits).any()))
            alarms["textbook"].append(bool((values > textbook).any()))
            alarms["always"].append(True)
        for name, found in shifted.items():
            other = detector.encode(_take(found, order[size:]))
            for words, share in SHARES.items():
                for _ in range(SHIFTED):
                    values = detector.statistics(_shifted(pool, other, share, rng))
                    delays[name + words].append(_delays(values > limits))
        print(f"  {folder}: {number + 1} of {references} references", end="\r", file=sys.stderr, flush=True)
    return {
        "run": e.cfg.name, "reference": size, "pool": count - size, "references": references, "streams": streams,
        "signals": detector.names, "alarms": {name: sum(each) for name, each in alarms.items()},
        "total": references * streams,
        "delays": {name: [_quantiles(column) for column in zip(*rows, strict=True)] for name, rows in delays.items()},
    }  # fmt: skip


def _delays(alarms: np.ndarray) -> list[int | None]:
    """bool[T, W, J] -> requests from the shift to the first alarm, of all windows and of each; None: there is none."""
    after = alarms[BEFORE // STRIDE :]
    columns = [after.any((1, 2)), *(after[:, w].any(-1) for w in range(len(WINDOWS)))]
    return [int(STRIDE * (1 + np.argmax(column))) if column.any() else None for column in columns]


def _quantiles(delays: Sequence[int | None]) -> list[int | None]:
    """The median and the 90th percentile; None for one that is beyond the stream's end.

    >>> _quantiles([25, 50, 75]), _quantiles([25, None, None])
    ([50, 75], [None, None])
    """
    known = sorted(AFTER + 1 if delay is None else delay for delay in delays)
    ranks = [known[int(np.ceil(share * len(known))) - 1] for share in (0.5, 0.9)]
    return [None if value > AFTER else value for value in ranks]


def _textbook(detector: Detector) -> np.ndarray:
    """f[W, J]: limits of each test in each window alone; MMD has none."""
    n = len(detector.features)
    of = {"psi": lambda w: PSI_LIMIT, "ks": lambda w: KS_FACTOR * np.sqrt(1 / w + 1 / n), "mmd": lambda w: np.inf}
    return np.array([[of[part.statistic](window) for part in detector.parts] for window in WINDOWS])


def _take(found: Arrays, rows: np.ndarray) -> Arrays:
    return {name: x[rows] for name, x in found.items()}


def _draw(features: np.ndarray, requests: int, rng: np.random.Generator) -> np.ndarray:
    """Rows without replacement where there are enough: what fresh requests are like."""
    return features[rng.choice(len(features), requests, replace=len(features) < requests)]


def _shifted(pool: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """BEFORE requests of `pool`, and AFTER of which a share is of `other`."""
    stream = _draw(pool, BEFORE + AFTER, rng)
    after = np.flatnonzero(rng.random(AFTER) < share)
    stream[BEFORE + after] = _draw(other, len(after), rng)
    return stream


# ---- Rows, as they are and shifted


def _rows(e: Experiment, variables: Mapping) -> tuple[Arrays, dict[str, Arrays]]:
    """The signals of all held-out rows of a run, and the same of every shift."""
    codec, fn = e.predictor.codec, jax.jit(e.predictor.fn)
    kinds = set(signals.kinds(codec).values())
    if not kinds <= {"picture", "text"} or len(kinds) != 1:
        raise UserError(f"{e.cfg.name}: want a classifier of pictures or of texts")
    parts = [_real(batch, codec.inputs) for split in e.evals.values() for batch in _batches(split)]
    shifts = _pictures() if kinds == {"picture"} else _texts(codec, sum(len(part["length"]) for part in parts))

    def found(change: Callable[[Arrays], Arrays]) -> Arrays:
        rows = []
        for part in parts:
            inputs = change(part)
            rows.append(signals.of_inputs(codec, inputs) | signals.of_outputs(jax.device_get(fn(variables, inputs))))
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return found(dict), {name: found(change) for name, change in shifts.items()}


def _batches(split: Any) -> list[Arrays]:
    return [split.batch(i) for i in range(len(split))]


def _real(batch: Arrays, names: Any) -> Arrays:
    real = np.asarray(batch["mask"]) > 0
    return {name: np.asarray(batch[name])[real] for name in names}


def _pictures() -> dict[str, Callable[[Arrays], Arrays]]:
    rng = np.random.default_rng(0)

    def noisy(x: np.ndarray) -> np.ndarray:
        return np.clip(x + rng.normal(0, NOISE, x.shape), 0, 1).astype(np.float32)

    changes = {"inverted": lambda x: 1 - x, "noisy": noisy, "moved": lambda x: np.roll(x, x.shape[2] // 8, 2)}
    return {name: partial(_of_image, change) for name, change in changes.items()}


def _of_image(change: Callable[[np.ndarray], np.ndarray], inputs: Arrays) -> Arrays:
    return {**inputs, "image": change(inputs["image"])}


def _texts(codec: Any, rows: int) -> dict[str, Callable[[Arrays], Arrays]]:
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    sources = {"Python code": "\n".join(path.read_text("utf-8", errors="ignore") for path in library)}
    german = Path(os.environ.get("ALMANAC_MIRROR", "")) / "multi30k" / "train.de.gz"
    if german.is_file():
        sources["German"] = gzip.decompress(german.read_bytes()).decode("utf-8")
    encoder, shifts = codec.encoder, {}
    for name, text in sources.items():
        ids = encoder.tokenizer.encode(encoder.clean(text[: rows * 1_000]))
        shifts[name] = _replaced(np.asarray(ids, np.int32))
    return shifts


def _replaced(ids: np.ndarray) -> Callable[[Arrays], Arrays]:
    """Rows of as many tokens as before, taken from `ids` one after another."""
    first = 0

    def change(inputs: Arrays) -> Arrays:
        nonlocal first
        tokens = np.zeros_like(inputs["tokens"])
        for row, length in zip(tokens, inputs["length"], strict=True):
            row[:length] = np.take(ids, range(first, first + length), mode="wrap")
            first += length
        return {**inputs, "tokens": tokens}

    return change


# ---- What is printed


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Two tables in Markdown: false alarms, and delays in requests."""
    lines = [
        "| requests of | reference | detector | streams with an alarm | share (95 % interval) |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    titles = {"monitor": "`almanac monitor`", "textbook": "textbook limits", "always": "fires always"}
    for each in results:
        for name, count in each["alarms"].items():
            low, high = stats.binomtest(count, each["total"]).proportion_ci(method="exact")
            share = f"{count / each['total']:.1%} ({low:.1%} to {high:.1%})"
            row = [each["run"], f"{each['reference']:,}", titles[name], f"{count} of {each['total']}", share]
            lines.append(f"| {' | '.join(row)} |")
    head = ["requests of", "shift", "all windows", *(f"{window:,} alone" for window in WINDOWS), "fires always"]
    lines += ["", f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for each in results:
        for shift, delays in each["delays"].items():
            cells = [", ".join("-" if each is None else f"{each:,}" for each in pair) for pair in delays]
            lines.append(f"| {' | '.join([each['run'], shift, *cells, str(STRIDE)])} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark monitor",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="classifiers of pictures or of texts")
    parser.add_argument("--references", default="50", metavar="N", help="default: 50")
    parser.add_argument("--streams", default="10", metavar="N", help="stationary, for each reference; default: 10")
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    args = parser.parse_args(argv)
    numbers = {name: options.parse_int(f"--{name}", getattr(args, name), 1) for name in ("references", "streams")}
    results = [measure(run, **numbers) for run in args.runs]
    print(table(results))
    if args.out:
        write_json(Path(args.out), results)
    return 0
