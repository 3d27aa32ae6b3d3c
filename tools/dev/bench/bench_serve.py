"""`almanac benchmark serve`: tokens a second of requests of mixed lengths, beside transformers' static batches.

The same weights and the same greedy requests, each with a prompt and a number of tokens of its own, from 1, 8 and 64 clients. A
client asks again when it has its last token. Ours: the engine of `almanac serve`, without HTTP, with a slot for each client.
transformers: batches of one request a client, which end with their longest member; what the others generate beyond their number
is not counted, and a client that has its last token waits for the next batch. Both must generate the same tokens.

The memory bound is what reading all weights once a step would allow, from the bytes a second that a sum over 256 MiB reads: a
model that fits into a cache can exceed it.
"""

import argparse
import itertools
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

CLIENTS = (1, 8, 64)
LONGEST = 160  # tokens generated, at most; the model's window is 256


def mixed(count: int) -> list[tuple[int, int]]:
    """(tokens of the prompt, tokens to generate) of each request: uniform, and log-uniform from 8 to LONGEST.

    >>> mixed(2) == mixed(3)[:2]
    True
    """
    rng = np.random.default_rng(0)
    draws = [(int(rng.integers(4, PROMPT + 1)), float(rng.uniform(np.log(8), np.log(LONGEST)))) for _ in range(count)]
    return [(prompt, round(np.exp(log_length))) for prompt, log_length in draws]


def waits(times: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Of when each request was asked and its tokens came, the waits.

    >>> waits([[1.0, 3.0, 3.5], [2.0, 2.25]])
    {'first': [2.0, 0.25], 'between': [0.5]}
    """
    return {
        "first": [came[1] - came[0] for came in times],
        "between": [after - before for came in times for before, after in itertools.pairwise(came[1:])],
    }


def measure(requests: int, rounds: int, threads: int, against: bool, changes: Sequence[str] = ()) -> dict[str, Any]:
    """What was measured: `others` is the share of the cores that others used, `bandwidth` is in bytes a second.

    Of each column and number of clients: `speeds`, the tokens a second of each round; `first`, the seconds until each request's
    first token, and `between`, those from each token to the next, of all rounds.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as processes:
        folder = Path(temporary)
        bench_cases.prepare(CASE, folder, changes, threads)
        workers = {"generate-ours": processes.enter_context(worker("generate-ours", folder, threads))}
        about = workers["generate-ours"].ask("export", requests, PROMPT, LONGEST)
        write_json(folder / "case.json", read_json(folder / "case.json") | {"platform": about["platform"]})
        if against:
            theirs = worker("generate-transformers", folder, threads)
            workers["generate-transformers"] = processes.enter_context(theirs)
        speeds, first, between = (
            {kind: {clients: list[float]() for clients in CLIENTS} for kind in workers} for _ in range(3)
        )
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
                    answer = process.ask("serve", clients, requests)
                    speeds[kind][clients].append(generated / answer["s"])
                    first[kind][clients] += answer["first"]
                    between[kind][clients] += answer["between"]
        after = bench_crowd.read(cores, [process.pid for process in workers.values()])
        shared = bench_crowd.others(before, after, len(cores))
        bandwidth = workers["generate-ours"].ask("bandwidth")["bytes_per_s"]
    return {
        "parameters": about["parameters"], "generated": generated, "others": shared, "bandwidth": bandwidth,
        "speeds": speeds, "first": first, "between": between,
    }  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """A line for each column and number of clients."""
    titles = {"generate-ours": "almanac serve's engine", "generate-transformers": "transformers, static batches"}
    bound = results["bandwidth"] / (4 * results["parameters"])
    lines = [
        f"{results['parameters']:,} parameters, {results['generated']:,} tokens a round; memory bound: {bound:,.0f} steps/s",
        f"{'':<30} clients  tokens/s (range)       first token, ms     next token, ms",
        f"{'':<30}                                 median    95 %     median    95 %",
    ]
    for kind, by_clients in results["speeds"].items():
        for clients, speeds in by_clients.items():
            rows = [1e3 * np.quantile(results[name][kind][clients], (0.5, 0.95)) for name in ("first", "between")]
            spread = f"{median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
            cells = "    ".join(f"{middle:>7,.1f} {high:>7,.1f}" for middle, high in rows)
            lines.append(f"{titles[kind]:<30} {clients:>7}  {spread:<22} {cells}")
    if results["others"] is not None:
        lines.append(f"other processes used {results['others']:.0%} of the cores' time")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac benchmark serve",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("--requests", default="128", metavar="N", help="default: 128")
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
