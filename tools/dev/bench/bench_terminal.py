"""The results of `almanac benchmark` for a terminal: aligned, with units."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tools.dev.bench.bench_numbers import batch_shape, between, crowding, first_step, number, ratios, row, tokens
from tools.dev.bench.bench_workers import TITLES


def describe(case: Mapping[str, Any]) -> str:
    """One case: two lines about it, aligned columns, and what was in the way."""
    head = ("", "ms a step", "÷ ours", f"{case['unit']}/s", "GFLOP/s", "of GEMM", "first step, s", "MB")
    rows = [(*head, "MFU") if case["peak"] else head]
    for kind in case["frameworks"]:
        r = row(case, kind)
        cells = (
            TITLES[kind],
            between(r.ms),
            between(r.ratio) if kind != "ours" else "",
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
    crowded, rounds, most = crowding(frameworks)
    if not crowded:
        return []
    return [f"CROWDED: in {crowded} of {rounds} rounds other processes used more than 5 %, at most {most:.0%}"]


def describe_generation(generation: Mapping[str, Any]) -> str:
    both = "; the same tokens from both" if len(generation["batches"][0]["frameworks"]) > 1 else ""
    line = (
        f"generate  {generation['parameters']:,} parameters, {generation['dtype']}, greedy, cached: "
        f"{generation['prompt']} tokens of prompt, {generation['new']} new{both}"
    )
    rows = [("", "batch", "tokens/s", "÷ ours' time", "first token, ms", "first call, s", "MB")]
    for batch in generation["batches"]:
        ours = batch["frameworks"]["generate-ours"]
        for kind, found in batch["frameworks"].items():
            ratio = between(ratios(found, ours)) if found is not ours else ""
            cells = (between(tokens(generation, batch, found)), ratio, number(1e3 * median(found["first_token_s"])))
            more = (f"{found['first_call_s']:.1f}", f"{found['rss'] / 1e6:,.0f}")
            rows.append((TITLES[kind], str(batch["batch"]), *cells, *more))
    crowds = [line for batch in generation["batches"] for line in _crowded_line(batch["frameworks"])]
    return "\n".join([line, *_aligned(rows), *crowds])
