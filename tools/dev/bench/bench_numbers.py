"""The numbers of `almanac benchmark`, computed from raw times, and their formatting."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from tools.dev.bench import bench_crowd

Spread = tuple[float, float, float]  # median, min, max over the rounds


class Row(NamedTuple):
    """The numbers of one column in one case."""

    ms: Spread
    ratio: Spread  # its time divided by ours, round by round
    speed: float  # tokens or images per second
    flops: float  # FLOP/s, by our count
    share: float  # of the FLOP/s of a matrix product
    mfu: float | None  # share of the FLOP/s in the data sheet
    cold: float | None  # seconds to the end of the first step, with an empty compilation cache
    warm: float
    memory: int  # bytes
    wait: float | None  # share of a step for which the loop waited for its batch


def row(case: Mapping[str, Any], kind: str) -> Row:
    """The numbers of column `kind`, from the raw results of a case."""
    column, ours = case["frameworks"][kind], case["frameworks"]["ours"]
    middle = median(column["ms"])
    rate = case["flops"] / middle * 1e3
    return Row(
        ms=spread(column["ms"]),
        ratio=spread([a / b for a, b in zip(column["ms"], ours["ms"], strict=True)]),
        speed=case["units"] / middle * 1e3,
        flops=rate,
        share=rate / case["gemm"],
        mfu=rate / case["peak"] if case["peak"] else None,
        cold=column["first_step_s"]["cold"],
        warm=column["first_step_s"]["warm"],
        memory=column["device_memory"] or column["rss"],
        wait=median(column["wait_ms"]) / middle if "wait_ms" in column else None,
    )


def spread(values: Sequence[float]) -> Spread:
    """Median, min and max.

    >>> spread([3.0, 1.0, 8.0])
    (3.0, 1.0, 8.0)
    """
    return median(values), min(values), max(values)


def crowding(frameworks: Mapping[str, Mapping], limit: float = bench_crowd.LIMIT) -> tuple[int, int, float]:
    """-> the number of rounds in which other processes used more than `limit` of the cores, all rounds, and the largest share."""
    by_round = zip(*(column["others"] for column in frameworks.values()), strict=True)
    largest = [max((share for share in shares if share is not None), default=0.0) for shares in by_round]
    return sum(share > limit for share in largest), len(largest), max(largest, default=0.0)


def tokens(generation: Mapping, batch: Mapping, column: Mapping) -> Spread:
    """New tokens per second, over all rows of the batch."""
    return spread([batch["batch"] * generation["new"] / s for s in column["s"]])


def ratios(column: Mapping, ours: Mapping) -> Spread:
    """A column's times divided by ours, round by round."""
    return spread([a / b for a, b in zip(column["s"], ours["s"], strict=True)])


def batch_shape(case: Mapping[str, Any]) -> str:
    """The shape of a batch as text.

    >>> batch_shape({"batch": [12, 64]})
    '12 x 64'
    """
    return " x ".join(map(str, case["batch"]))


def first_step(r: Row) -> str:
    """The seconds of the first step, cold (if measured) and warm, as text."""
    return f"{r.warm:.1f}" if r.cold is None else f"{r.cold:.1f}, then {r.warm:.1f}"


def with_range(values: Spread, separator: str = " to ") -> str:
    """A median with its range as text.

    >>> with_range((20.0, 16.0, 40.0))
    '20.0 (16.0 to 40.0)'
    """
    middle, low, high = map(number, values)
    return f"{middle} ({low}{separator}{high})"


def number(value: float, digits: int = 3) -> str:
    """A number with at least `digits` significant digits, without an exponent.

    >>> number(1.2345), number(123_456.7), number(0.00123)
    ('1.23', '123,457', '0.00123')
    """
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"
