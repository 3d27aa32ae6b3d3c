"""What the results of `almanac benchmark` say: each column's numbers from its raw times, and how they are written."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from tools.dev.bench import bench_crowd

Spread = tuple[float, float, float]  # median, least, most over the rounds


class Row(NamedTuple):
    """A column's numbers in one case, from its raw times."""

    ms: Spread
    ratio: Spread  # of its time to ours, round by round
    speed: float  # tokens or images a second
    flops: float  # FLOP/s, of our count
    share: float  # of the FLOP/s that a matrix product reaches
    mfu: float | None  # of the FLOP/s of the data sheet
    cold: float | None  # seconds to the end of the first step, with an empty cache of compiled programs
    warm: float
    memory: int  # bytes
    wait: float | None  # share of a step that the loop waited for its batch


def row(case: Mapping[str, Any], kind: str) -> Row:
    found, ours = case["frameworks"][kind], case["frameworks"]["ours"]
    middle = median(found["ms"])
    rate = case["flops"] / middle * 1e3
    return Row(
        ms=spread(found["ms"]),
        ratio=spread([a / b for a, b in zip(found["ms"], ours["ms"], strict=True)]),
        speed=case["units"] / middle * 1e3,
        flops=rate,
        share=rate / case["gemm"],
        mfu=rate / case["peak"] if case["peak"] else None,
        cold=found["first_step_s"]["cold"],
        warm=found["first_step_s"]["warm"],
        memory=found["device_memory"] or found["rss"],
        wait=median(found["wait_ms"]) / middle if "wait_ms" in found else None,
    )


def spread(values: Sequence[float]) -> Spread:
    return median(values), min(values), max(values)


def crowding(frameworks: Mapping[str, Mapping], limit: float = bench_crowd.LIMIT) -> tuple[int, int, float]:
    """Rounds in which other processes used more than `limit` of the cores, all rounds, and the most that they used."""
    by_round = zip(*(found["others"] for found in frameworks.values()), strict=True)
    most = [max((share for share in shares if share is not None), default=0.0) for shares in by_round]
    return sum(share > limit for share in most), len(most), max(most, default=0.0)


def tokens(generation: Mapping, batch: Mapping, found: Mapping) -> Spread:
    """New tokens a second, all rows together."""
    return spread([batch["batch"] * generation["new"] / s for s in found["s"]])


def ratios(found: Mapping, ours: Mapping) -> Spread:
    return spread([a / b for a, b in zip(found["s"], ours["s"], strict=True)])


def batch_shape(case: Mapping[str, Any]) -> str:
    return " x ".join(map(str, case["batch"]))


def first_step(r: Row) -> str:
    return f"{r.warm:.1f}" if r.cold is None else f"{r.cold:.1f}, then {r.warm:.1f}"


def between(values: Spread, word: str = " to ") -> str:
    middle, low, high = map(number, values)
    return f"{middle} ({low}{word}{high})"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, and never an exponent."""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"
