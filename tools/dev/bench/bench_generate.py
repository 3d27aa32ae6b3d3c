"""`almanac benchmark generate`: compares cached generation with transformers' `generate` for the same weights."""

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
PROMPT, NEW = 64, 192  # tokens per row; the model's window is 256
BATCHES = (1, 8)


def measure(plan: Plan, changes: Sequence[str]) -> dict[str, Any]:
    """The results for generation: for each batch size and column the seconds of a call in each round.

    Raises UserError if the columns generate different tokens.
    """
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as processes:
        folder = Path(temporary)
        bench_cases.prepare(CASE, folder, changes, plan.threads)
        workers = {"generate-ours": processes.enter_context(worker("generate-ours", folder, plan.threads))}
        about = workers["generate-ours"].ask("export", max(BATCHES), PROMPT, NEW)
        write_json(folder / "case.json", read_json(folder / "case.json") | {"platform": about["platform"]})
        if plan.against:
            theirs = worker("generate-transformers", folder, plan.threads)
            workers["generate-transformers"] = processes.enter_context(theirs)
        rows = [_batch(workers, size, about["new"], plan) for size in BATCHES]
    return {"config": CASE.config, "changes": list(changes), **about, "batches": rows}


def _batch(workers: dict[str, Any], size: int, new: int, plan: Plan) -> dict[str, Any]:
    """Measures one batch size."""
    first = {kind: process.ask("tokens", size, new) for kind, process in workers.items()}
    _require_equal({kind: answer["tokens"] for kind, answer in first.items()}, size)
    columns: dict[str, dict] = {}
    for kind, process in workers.items():
        process.ask("tokens", size, 1)  # compiles for the other length
        columns[kind] = {"first_call_s": first[kind]["first_s"], "s": [], "first_token_s": [], "others": []}
    calls = max(1, round(1 / min(process.ask("run", size, new)["s"] for process in workers.values())))
    for _ in range(plan.rounds):
        for kind, process in workers.items():
            before = bench_crowd.read(plan.cores, [process.pid])
            answers = [process.ask("run", size, new) for _ in range(calls)]
            after = bench_crowd.read(plan.cores, [process.pid])
            columns[kind]["s"].append(median(answer["s"] for answer in answers))
            columns[kind]["others"].append(bench_crowd.others(before, after, len(plan.cores)))
            columns[kind]["first_token_s"].append(process.ask("run", size, 1)["s"])
            columns[kind]["rss"] = answers[-1]["rss"]
    return {"batch": size, "calls": calls, "frameworks": columns}


def _require_equal(tokens: dict[str, list[list[int]]], size: int) -> None:
    """Raises UserError unless all columns have generated the same tokens."""
    ours, *others = tokens.values()
    for theirs in others:
        for row, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a != b:
                at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
                raise UserError(
                    f"generate: of {size} rows, number {row} differs from transformers' at its new token {at}, "
                    "from the same weights and prompts"
                )
