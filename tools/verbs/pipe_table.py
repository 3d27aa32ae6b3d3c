"""The tables of `almanac pipe`: the time of each stage, and how often it is right."""

from collections.abc import Sequence

import numpy as np

from research.serving.chain import Row
from research.serving.oracle import Score
from research.serving.stage import Stage
from research.util.escape import visible


def lines(stages: Sequence[Stage], rows: Sequence[Row], scores: Sequence[Score]) -> list[str]:
    """A line for each stage: rows that passed, errors, ms a row (median, 95 %), share of all medians; then those of the scores.

    Rows that are computed together have the mean of their time. The median leaves out the rows that wait for a compiler.
    """
    times = [[1e3 * row.seconds[i] for row in rows if i < len(row.seconds)] for i in range(len(stages))]
    medians = [float(np.median(each)) if each else 0.0 for each in times]
    names = [visible(f"{number} {stage.name}") for number, stage in enumerate(stages, 1)]
    width = max(map(len, ["stage", *names])) + 2
    found = [f"{'stage':<{width}}{'rows':>8}{'errors':>8}{'median ms':>11}{'95 % ms':>10}{'share':>8}"]
    for i, name in enumerate(names):
        errors = sum(bool(row.error) and len(row.seconds) == i for row in rows)
        most = float(np.percentile(times[i], 95)) if times[i] else 0.0
        share = medians[i] / (sum(medians) or 1)
        found.append(f"{name:<{width}}{len(times[i]):>8,}{errors:>8,}{medians[i]:>11.3f}{most:>10.3f}{share:>8.0%}")
    if scores:
        found += ["", f"{'stage':<{width}}{'measure':<22}{'on what it got':>18}{'on the true input':>22}"]
    for score in scores:
        value, true = _number(score.value, score.rows), _number(score.on_truth, score.rows_on_truth)
        found.append(f"{names[score.stage]:<{width}}{score.measure:<22}{value:>18}{true:>22}")
    return found


def _number(value: float | None, rows: int) -> str:
    return "-" if value is None else f"{value:.4f} of {rows:,}"
