"""The Markdown tables of docs/benchmarks.md, made from the results of `almanac benchmark`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json, write_text
from tools.dev.bench.bench_crowd import LIMIT
from tools.dev.bench.bench_numbers import batch_shape, crowding, first_step, number, ratios, row, tokens, with_range
from tools.dev.bench.bench_workers import AGAINST, ROOT, TITLES

RESULTS = ROOT / "tools" / "benchmark_results"
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
NONE = "–"  # the cell of a missing measurement


def tables(results: Sequence[Mapping[str, Any]]) -> str:
    """The results of one machine, one for each number of threads -> Markdown tables, a legend and notes on the measurements."""
    parts = []
    if any(result["cases"] for result in results):
        parts += [_markdown(_speed(results)), _markdown(_costs(results))]
    if any(result.get("generation") for result in results):
        parts.append(_markdown(_generation(results)))
    notes = "\n".join(f"- {note(result)}" for result in results)
    return "\n\n".join([*parts, f"{_LEGEND}\n\n{notes}"])


_LEGEND = (
    "Each cell of times is the median of alternating rounds, least and most in brackets. A ratio is a column's time "
    "divided by ours, round by round: above 1 we are faster. “Our allocator” is PyTorch with the settings of glibc's "
    "allocator that ours runs with. The share of a GEMM is the model's FLOP/s over those of the fastest large matrix "
    "product, by JAX or PyTorch, of any session. A checkpoint's two numbers are how long the loop waits for the "
    "call, and by how much the steps after it are slower while it is written."
)


def _cases(results: Sequence[Mapping]) -> list[tuple[Mapping, Mapping]]:
    """(result, case) pairs by model, then by number of threads."""
    order = list(dict.fromkeys(case["name"] for result in results for case in result["cases"]))
    pairs = [(result, {**case, "gemm": _peak(result, case["dtype"])}) for result in results for case in result["cases"]]
    return sorted(pairs, key=lambda pair: (order.index(pair[1]["name"]), pair[0]["threads"]))


def _peak(result: Mapping, dtype: str) -> float:
    """FLOP/s of the fastest matrix product of the dtype in any session: a peak that was disturbed would flatter the shares."""
    return max(*result["gemm"][dtype].values(), *(c["gemm"] for c in result["cases"] if c["dtype"] == dtype), 0)


def _against(results: Sequence[Mapping]) -> list[str]:
    """The columns of PyTorch that were measured."""
    return [kind for kind in AGAINST if any(kind in case["frameworks"] for _, case in _cases(results))]


def _speed(results: Sequence[Mapping]) -> list[list[str]]:
    """The table of step times."""
    against = _against(results)
    kinds = [kind for kind in ("ours", "eager") if kind == "ours" or kind in against]
    names = ", ".join(TITLES[kind] for kind in kinds)
    ratios_head = [f"{TITLES[kind]} ÷ ours" for kind in against]
    lines = [["model", "threads", "Almanac, ms a step", *ratios_head, f"share of a GEMM: {names}"]]
    for result, case in _cases(results):
        rows = {kind: row(case, kind) for kind in case["frameworks"]}
        ratios = [with_range(rows[kind].ratio, "–") if kind in rows else NONE for kind in against]
        shares = ", ".join(f"{rows[kind].share:.0%}" for kind in kinds if kind in rows)
        lines.append([_name(case), str(result["threads"]), with_range(rows["ours"].ms, "–"), *ratios, shares])
    return lines


def _name(case: Mapping[str, Any]) -> str:
    size = f"{case['parameters'] / 1e6:.2f} M, {batch_shape(case).replace(' x ', '×')}"
    crowded, rounds, _ = crowding(case["frameworks"])
    mark = f" (crowded in {crowded} of {rounds} rounds)" if crowded else ""
    dtype = "" if case["dtype"] in case["name"] else f", {case['dtype']}"
    return f"{case['name']}, {size}{dtype}{mark}"


def _costs(results: Sequence[Mapping]) -> list[list[str]]:
    """The table of first steps, memory, input and checkpoints."""
    kinds = ["ours", *(kind for kind in ("eager", "compile") if kind in _against(results))]
    names = "; ".join(TITLES[kind] for kind in kinds)
    lines = [
        [
            "model",
            "threads",
            f"first step, s, cold then warm: {names}",
            f"peak memory, MB: {names}",
            "input wait, share of a step",
            "checkpoint: MB; call, slow-down, ms",
        ]
    ]
    for result, case in _cases(results):
        rows = {kind: row(case, kind) for kind in case["frameworks"]}
        stall = case["checkpoint"]
        lines.append(
            [
                case["name"],
                str(result["threads"]),
                "; ".join(first_step(rows[kind]).replace(" then", "") if kind in rows else NONE for kind in kinds),
                "; ".join(f"{rows[kind].memory / 1e6:,.0f}" if kind in rows else NONE for kind in kinds),
                f"{rows['ours'].wait:.1%}",
                f"{stall['bytes'] / 1e6:,.1f}; {median(stall['call_ms']):,.0f}, {median(stall['after_ms']):,.0f}",
            ]
        )
    return lines


def _generation(results: Sequence[Mapping]) -> list[list[str]]:
    """The table of generation."""
    both = "Almanac; transformers"
    lines = [
        [
            "generation",
            "threads",
            "Almanac, tokens/s",
            "transformers, tokens/s",
            "transformers ÷ ours",
            f"first token, ms: {both}",
        ]
    ]
    for result in results:
        generation = result.get("generation") or {"batches": []}
        for batch in generation["batches"]:
            ours = batch["frameworks"]["generate-ours"]
            theirs = batch["frameworks"].get("generate-transformers")
            lines.append(
                [
                    f"{generation['parameters'] / 1e6:.1f} M, batch {batch['batch']}, {generation['prompt']} + "
                    f"{generation['new']} tokens",
                    str(result["threads"]),
                    with_range(tokens(generation, batch, ours), "–"),
                    with_range(tokens(generation, batch, theirs), "–") if theirs else NONE,
                    with_range(ratios(theirs, ours), "–") if theirs else NONE,
                    "; ".join(number(1e3 * median(column["first_token_s"])) for column in (ours, theirs) if column),
                ]
            )
    return lines


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first being the head -> a Markdown table.

    >>> print(_markdown([["model", "ms"], ["gpt", "20.0"]]))
    | model | ms |
    | --- | --- |
    | gpt | 20.0 |
    """
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def note(result: Mapping[str, Any]) -> str:
    """A line on the machine, threads, versions, GEMM peaks, dates, and whether other processes used the machine."""
    machine, versions = result["machine"], result["versions"]
    accelerator = f"{machine['accelerator']}, " if machine["accelerator"] else ""
    packages = {"jax": "JAX", "torch": "PyTorch", "transformers": "transformers"}
    package_versions = ", ".join(f"{name} {versions[key]}" for key, name in packages.items() if key in versions)
    peaks = " and ".join(f"{_peak(result, dtype) / 1e9:,.0f} in {dtype}" for dtype in result["gemm"])
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    memory = "the device's" if accelerator else "the process's"
    tf32 = " TF32 is on in all columns." if result["tf32"] else ""
    crowd = result["crowd"]
    warning = ""
    if crowd["told"] and not (crowd["before"] is not None and crowd["before"] <= LIMIT):
        warning = (
            f" **Measured on a crowded machine, as it was told to be**: other processes used {_percent(crowd['before'])} "
            "of the cores' time before the start."
        )
    return (
        f"{threads}: {accelerator}{machine['cpu']}; {package_versions}; a GEMM reaches {peaks} (GFLOP/s); memory is {memory}; "
        f"{_when(result)}.{tf32}{warning}"
    )


def _when(result: Mapping[str, Any]) -> str:
    """The times of the first and the last measurement, and the commits of all cases."""
    parts = [case for case in result["cases"] if "commit" in case] or [result]
    times, commits = sorted(part["measured"] for part in parts), dict.fromkeys(part["commit"] for part in parts)
    span = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
    return f"{span}, commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.0%}"


def write_page(path: Path, folder: Path = RESULTS) -> None:
    """Rewrites the tables between the page's markers from all results in `folder`.

    Raises UserError if there are no results, or the page does not have each marker once, in order.
    """
    text, files = path.read_text(encoding="utf-8"), sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"{folder} holds no results: almanac benchmark --out writes them")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: wants one line {BEGIN} and, after it, one line {END}")
    machines: dict[tuple, list] = {}
    for result in map(read_json, files):
        machine = result["machine"]
        machines.setdefault((machine["accelerator"] or "", machine["cpu"]), []).append(result)
    page_tables = [tables(sorted(results, key=lambda r: r["threads"])) for results in machines.values()]
    head, after = text.split(BEGIN)
    content = "\n\n".join(page_tables)
    write_text(path, f"{head}{BEGIN}\n\n{content}\n\n{END}{after.split(END)[1]}")
