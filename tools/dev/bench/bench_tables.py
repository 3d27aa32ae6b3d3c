"""The results of `almanac benchmark` as the Markdown tables of docs/benchmarks.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json, write_text
from tools.dev.bench.bench_crowd import LIMIT
from tools.dev.bench.bench_numbers import batch_shape, between, crowding, first_step, number, ratios, row, tokens
from tools.dev.bench.bench_workers import AGAINST, ROOT, TITLES

RESULTS = ROOT / "tools" / "benchmark_results"
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
NONE = "–"  # a cell of what was not measured


def tables(results: Sequence[Mapping[str, Any]]) -> str:
    """The JSONs of one machine, one for each number of threads -> Markdown tables, and what they were measured on."""
    parts = []
    if any(result["cases"] for result in results):
        parts += [_markdown(_speed(results)), _markdown(_beside(results))]
    if any(result.get("generation") for result in results):
        parts.append(_markdown(_generation(results)))
    notes = "\n".join(f"- {note(result)}" for result in results)
    return "\n\n".join([*parts, f"{_LEGEND}\n\n{notes}"])


_LEGEND = (
    "Each cell of times is the median of alternating rounds, least and most in brackets. A ratio is a column's time "
    "divided by ours, round by round: above 1 we are faster. “Our allocator” is PyTorch with the settings of glibc's "
    "allocator that ours runs with. The share of a GEMM is the model's FLOP/s over those of the fastest large matrix "
    "product, by JAX or PyTorch, in the same session. A checkpoint's two numbers are how long the loop waits for the "
    "call, and by how much the steps after it are slower while it is written."
)


def _cases(results: Sequence[Mapping]) -> list[tuple[Mapping, Mapping]]:
    """(result, case): a model's numbers of threads stand below each other."""
    order = list(dict.fromkeys(case["name"] for result in results for case in result["cases"]))
    pairs = [(result, case) for result in results for case in result["cases"]]
    return sorted(pairs, key=lambda pair: (order.index(pair[1]["name"]), pair[0]["threads"]))


def _against(results: Sequence[Mapping]) -> list[str]:
    return [kind for kind in AGAINST if any(kind in case["frameworks"] for _, case in _cases(results))]


def _speed(results: Sequence[Mapping]) -> list[list[str]]:
    against = _against(results)
    shown = [kind for kind in ("ours", "eager") if kind == "ours" or kind in against]
    names = ", ".join(TITLES[kind] for kind in shown)
    ratios_head = [f"{TITLES[kind]} ÷ ours" for kind in against]
    lines = [["model", "threads", "Almanac, ms a step", *ratios_head, f"share of a GEMM: {names}"]]
    for result, case in _cases(results):
        rows = {kind: row(case, kind) for kind in case["frameworks"]}
        ratios = [between(rows[kind].ratio, "–") if kind in rows else NONE for kind in against]
        shares = ", ".join(f"{rows[kind].share:.0%}" for kind in shown if kind in rows)
        lines.append([_name(case), str(result["threads"]), between(rows["ours"].ms, "–"), *ratios, shares])
    return lines


def _name(case: Mapping[str, Any]) -> str:
    size = f"{case['parameters'] / 1e6:.2f} M, {batch_shape(case).replace(' x ', '×')}"
    crowded, rounds, _ = crowding(case["frameworks"])
    mark = f" (crowded in {crowded} of {rounds} rounds)" if crowded else ""
    dtype = "" if case["dtype"] in case["name"] else f", {case['dtype']}"
    return f"{case['name']}, {size}{dtype}{mark}"


def _beside(results: Sequence[Mapping]) -> list[list[str]]:
    """Start, memory and stalls."""
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
                    between(tokens(generation, batch, ours), "–"),
                    between(tokens(generation, batch, theirs), "–") if theirs else NONE,
                    between(ratios(theirs, ours), "–") if theirs else NONE,
                    "; ".join(number(1e3 * median(found["first_token_s"])) for found in (ours, theirs) if found),
                ]
            )
    return lines


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def note(result: Mapping[str, Any]) -> str:
    """One line: machine, threads, versions, GEMM peaks, when, and whether others used the machine."""
    where, versions = result["machine"], result["versions"]
    accelerator = f"{where['accelerator']}, " if where["accelerator"] else ""
    packages = {"jax": "JAX", "torch": "PyTorch", "transformers": "transformers"}
    told = ", ".join(f"{name} {versions[key]}" for key, name in packages.items() if key in versions)
    peaks = " and ".join(f"{max(rates.values()) / 1e9:,.0f} in {dtype}" for dtype, rates in result["gemm"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    memory = "the device's" if accelerator else "the process's"
    tf32 = " TF32 is on in all columns." if result["tf32"] else ""
    crowd = result["crowd"]
    crowded = ""
    if crowd["told"] and not (crowd["before"] is not None and crowd["before"] <= LIMIT):
        crowded = (
            f" **Measured on a crowded machine, as it was told to be**: other processes used {_percent(crowd['before'])} "
            "of the cores' time before the start."
        )
    return (
        f"{threads}: {accelerator}{where['cpu']}; {told}; a GEMM reaches {peaks} (GFLOP/s); memory is {memory}; "
        f"{_when(result)}.{tf32}{crowded}"
    )


def _when(result: Mapping[str, Any]) -> str:
    """When the first and the last case were measured, and the commits of all."""
    parts = [case for case in result["cases"] if "commit" in case] or [result]
    times, commits = sorted(part["measured"] for part in parts), dict.fromkeys(part["commit"] for part in parts)
    span = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
    return f"{span}, commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{share:.0%}"


def write_page(path: Path, folder: Path = RESULTS) -> None:
    """Writes the tables of every committed JSON between the page's markers."""
    text, files = path.read_text(encoding="utf-8"), sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"{folder} holds no results: almanac benchmark --out writes them")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: wants one line {BEGIN} and, after it, one line {END}")
    machines: dict[tuple, list] = {}
    for result in map(read_json, files):
        where = result["machine"]
        machines.setdefault((where["accelerator"] or "", where["cpu"]), []).append(result)
    made = [tables(sorted(results, key=lambda r: r["threads"])) for results in machines.values()]
    head, rest = text.split(BEGIN)
    whole = "\n\n".join(made)
    write_text(path, f"{head}{BEGIN}\n\n{whole}\n\n{END}{rest.split(END)[1]}")
