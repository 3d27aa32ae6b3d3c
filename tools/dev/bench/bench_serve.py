"""`almanac benchmark serve`: tokens a second of requests of mixed lengths, beside transformers' static batches.

The same weights and the same greedy requests, each with a prompt and a number of tokens of its own. Ours: the engine of
`almanac serve`, without HTTP, with one client, which asks one after another, and with eight, each of which asks again when it
has its answer. transformers: one request after another, and eight at a time, where a batch ends with its longest member and
what the others generate beyond their number is not counted. Both must generate the same tokens.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from experiments import options
from research.util.errors import UserError
from research.util.files import read_json, write_json
from tools.dev.bench import bench_cases, bench_crowd
from tools.dev.bench.bench_generate import CASE, PROMPT
from tools.dev.bench.bench_workers import worker

CLIENTS = (1, 8)
LONGEST = 160  # tokens generated, at most; the model's window is 256


def mixed(count: int) -> list[tuple[int, int]]:
    """(tokens of the prompt, tokens to generate) of each request: uniform, and log-uniform from 8 to LONGEST.

    >>> mixed(2) == mixed(3)[:2]
    True
    """
    rng = np.random.default_rng(0)
    draws = [(int(rng.integers(4, PROMPT + 1)), float(rng.uniform(np.log(8), np.log(LONGEST)))) for _ in range(count)]
    return [(prompt, round(np.exp(log_length))) for prompt, log_length in draws]


def measure(requests: int, rounds: int, threads: int, against: bool, changes: Sequence[str] = ()) -> dict[str, Any]:
    """{"generated": tokens, "others": the share of the cores that others used, column: {clients: tokens/s of each round}}."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as processes:
        folder = Path(temporary)
        bench_cases.prepare(CASE, folder, changes, threads)
        workers = {"generate-ours": processes.enter_context(worker("generate-ours", folder, threads))}
        about = workers["generate-ours"].ask("export", requests, PROMPT, LONGEST)
        write_json(folder / "case.json", read_json(folder / "case.json") | {"platform": about["platform"]})
        if against:
            theirs = worker("generate-transformers", folder, threads)
            workers["generate-transformers"] = processes.enter_context(theirs)
        speeds: dict[str, dict[int, list[float]]] = {kind: {clients: [] for clients in CLIENTS} for kind in workers}
        cores, answers = bench_crowd.cores(), []
        for process in workers.values():
            for clients in CLIENTS:
                answers.append(process.ask("serve", clients, requests)["tokens"])  # compiles
        if any(answer != answers[0] for answer in answers):
            raise UserError("serve: the columns differ in what they generate from the same weights and prompts")
        generated = sum(map(len, answers[0]))
        before = bench_crowd.read(cores, [process.pid for process in workers.values()])
        for _ in range(rounds):
            for kind, process in workers.items():
                for clients in CLIENTS:
                    speeds[kind][clients].append(generated / process.ask("serve", clients, requests)["s"])
        after = bench_crowd.read(cores, [process.pid for process in workers.values()])
        shared = bench_crowd.others(before, after, len(cores))
    return {"parameters": about["parameters"], "generated": generated, "others": shared, "speeds": speeds}


def table(results: dict[str, Any]) -> str:
    """The medians in tokens a second, with the range."""
    titles = {"generate-ours": "almanac serve's engine", "generate-transformers": "transformers, static batches"}
    lines = [f"{results['parameters']:,} parameters, {results['generated']:,} tokens; tokens/s, median (range)"]
    for kind, by_clients in results["speeds"].items():
        cells = [f"{n}: {median(x):,.0f} ({min(x):,.0f} to {max(x):,.0f})" for n, x in by_clients.items()]
        lines.append(f"  {titles[kind]:<30} clients {'   '.join(cells)}")
    if results["others"] is not None:
        lines.append(f"  other processes used {results['others']:.0%} of the cores' time")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark serve",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--requests", default="32", metavar="N", help="default: 32")
    parser.add_argument("--rounds", default="3", metavar="N", help="default: 3")
    parser.add_argument("--threads", default="1", metavar="N", help="default: 1")
    parser.add_argument("--against", choices=("transformers", "none"), default="transformers")
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    args = parser.parse_args(argv)
    numbers: dict[str, Any] = {
        k: options.parse_int(f"--{k}", getattr(args, k), 1) for k in ("requests", "rounds", "threads")
    }
    results = measure(**numbers, against=args.against == "transformers")
    print(table(results))
    if args.out:
        write_json(Path(args.out), results)
    return 0
