"""The results of `almanac benchmark` as text for a terminal."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tools.dev.bench.bench_numbers import batch_shape, crowding, first_step, number, ratios, row, tokens, with_range
from tools.dev.bench.bench_workers import TITLES


def describe(case: Mapping[str, Any]) -> str:
    """The text for one case: two lines about it, aligned columns, the costs of input and checkpoints, and other processes."""
    head = ("", "ms a step", "÷ ours", f"{case['unit']}/s", "GFLOP/s", "of GEMM", "first step, s", "MB")
    rows = [(*head, "MFU") if case["peak"] else head]
    for kind in case["frameworks"]:
        r = row(case, kind)
        cells = (
            TITLES[kind],
            with_range(r.ms),
            with_range(r.ratio) if kind != "ours" else "",
            f"{r.speed:,.0f}",
            f"{r.flops / 1e9:,.1f}",
            f"{r.share:.0%}",
            first_step(r),
            f"{r.memory / 1e6:,.0f}",
        )
        rows.append((*cells, f"{r.mfu:.1%}") if r.mfu is not None else cells)
    stall = case["checkpoint"]
    lines = [
        f"{case['name']}  {case['parameters']:,} parameters, batch {batch_shape(case)}, {case['dtype']}, "
        f"{case['flops'] / 1e9:,.2f} GFLOP a step",
        f"{len(case['frameworks']['ours']['ms'])} rounds of {case['steps']} steps; a GEMM reaches "
        f"{case['gemm'] / 1e9:,.0f} GFLOP/s in {case['dtype']}",
        *_aligned(rows),
        f"our loop waits for data {row(case, 'ours').wait:.1%} of a step; a checkpoint ({stall['bytes'] / 1e6:,.1f} MB) "
        f"holds it {median(stall['call_ms']):,.0f} ms,",
        f"and the {stall['steps']} steps after it take {median(stall['after_ms']):+,.0f} ms",
    ]
    return "\n".join([*lines, *_crowded_line(case["frameworks"])])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip() for cells in rows
    ]


def _crowded_line(frameworks: Mapping[str, Mapping]) -> list[str]:
    """A warning if other processes used the cores."""
    crowded, rounds, largest = crowding(frameworks)
    if not crowded:
        return []
    return [f"CROWDED: in {crowded} of {rounds} rounds other processes used more than 5 %, at most {largest:.0%}"]


def describe_generation(generation: Mapping[str, Any]) -> str:
    """The text for the results of `generate`."""
    both = "; the same tokens from both" if len(generation["batches"][0]["frameworks"]) > 1 else ""
    line = (
        f"generate  {generation['parameters']:,} parameters, {generation['dtype']}, greedy, cached: "
        f"{generation['prompt']} tokens of prompt, {generation['new']} new{both}"
    )
    rows = [("", "batch", "tokens/s", "÷ ours' time", "first token, ms", "first call, s", "MB")]
    for batch in generation["batches"]:
        ours = batch["frameworks"]["generate-ours"]
        for kind, column in batch["frameworks"].items():
            ratio = with_range(ratios(column, ours)) if column is not ours else ""
            cells = (
                with_range(tokens(generation, batch, column)),
                ratio,
                number(1e3 * median(column["first_token_s"])),
            )
            costs = (f"{column['first_call_s']:.1f}", f"{column['rss'] / 1e6:,.0f}")
            rows.append((TITLES[kind], str(batch["batch"]), *cells, *costs))
    crowds = [line for batch in generation["batches"] for line in _crowded_line(batch["frameworks"])]
    return "\n".join([line, *_aligned(rows), *crowds])
