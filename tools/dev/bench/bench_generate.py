"""`almanac benchmark generate`: cached generation, beside transformers' `generate` on the same weights."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json, write_json
from tools.dev.bench import bench_cases, bench_crowd
from tools.dev.bench.bench_measure import Plan
from tools.dev.bench.bench_workers import worker

NAME = "generate"
CASE = bench_cases.Case("language_model/shakespeare_char", ("data.source=pydoc", "dtype=float32", "model.dropout=0.0"))
PROMPT, NEW = 64, 192  # tokens of a row: the model's window is 256
BATCHES = (1, 8)


def measure(plan: Plan, changes: Sequence[str]) -> dict[str, Any]:
    """What the JSON says of generation: for each batch size and column the seconds of each round's calls."""
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as processes:
        folder = Path(made)
        bench_cases.prepare(CASE, folder, changes, plan.threads)
        live = {"generate-ours": processes.enter_context(worker("generate-ours", folder, plan.threads))}
        about = live["generate-ours"].ask("export", max(BATCHES), PROMPT, NEW)
        write_json(folder / "case.json", read_json(folder / "case.json") | {"platform": about["platform"]})
        if plan.against:
            theirs = worker("generate-transformers", folder, plan.threads)
            live["generate-transformers"] = processes.enter_context(theirs)
        rows = [_batch(live, size, about["new"], plan) for size in BATCHES]
    return {"config": CASE.config, "changes": list(changes), **about, "batches": rows}


def _batch(live: dict[str, Any], size: int, new: int, plan: Plan) -> dict[str, Any]:
    said = {kind: process.ask("tokens", size, new) for kind, process in live.items()}
    _same({kind: answer["tokens"] for kind, answer in said.items()}, size)
    found: dict[str, dict] = {}
    for kind, process in live.items():
        process.ask("tokens", size, 1)  # another length, which compiles
        found[kind] = {"first_call_s": said[kind]["first_s"], "s": [], "first_token_s": [], "others": []}
    calls = max(1, round(1 / min(process.ask("run", size, new)["s"] for process in live.values())))
    for _ in range(plan.rounds):
        for kind, process in live.items():
            before = bench_crowd.read(plan.cores, [process.pid])
            answers = [process.ask("run", size, new) for _ in range(calls)]
            after = bench_crowd.read(plan.cores, [process.pid])
            found[kind]["s"].append(median(answer["s"] for answer in answers))
            found[kind]["others"].append(bench_crowd.others(before, after, len(plan.cores)))
            found[kind]["first_token_s"].append(process.ask("run", size, 1)["s"])
            found[kind]["rss"] = answers[-1]["rss"]
    return {"batch": size, "calls": calls, "frameworks": found}


def _same(tokens: dict[str, list[list[int]]], size: int) -> None:
    """UserError if two columns do not say the same tokens."""
    ours, *others = tokens.values()
    for theirs in others:
        for row, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a != b:
                at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
                raise UserError(
                    f"generate: of {size} rows, number {row} differs from transformers' at its new token {at}, "
                    "from the same weights and prompts"
                )
