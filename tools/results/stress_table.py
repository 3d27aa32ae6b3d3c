"""The table of docs/reliability.md, made from the committed results of `almanac stress`; `almanac verify` recomputes it."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from research.util.errors import UserError
from research.util.files import read_json, write_text
from tools.root import RELIABILITY_PAGE, ROOT

RESULTS = ROOT / "tools" / "stress_results"
BEGIN, END = "<!-- stress -->", "<!-- /stress -->"
COLUMNS = ("what was done", "how often", "what failed", "measured")
PHASES = ("start", "step", "evaluate", "save", "end")  # phases of a run, in which it is killed
HARMLESS, DETECTED, WRONG = "harmless", "found", "wrong"  # outcomes of restoring a corrupted file, as in the results


# ---- One row for each part


def _kills(results: Mapping[str, Any]) -> list[str]:
    cases, families = results["cases"], {run["family"] for run in results["runs"]}
    bad = sum(bool(run["problems"]) for run in results["runs"])
    died = ", ".join(f"{phase} {sum(c['died'] == phase for c in cases)}" for phase in PHASES)
    lost = max((c["step"] - c["kept"] for c in cases), default=0)
    return [
        "SIGKILL at a random moment, then resumed",
        f"{len(cases)} kills in {len(results['runs'])} runs of {len(families)} families ({died}; "
        f"{sum(c['writing'] for c in cases)} while a checkpoint was being written)",
        f"{bad} runs that differ in any bit of parameters, optimiser state, randomness or log",
        f"at most {lost} steps lost, with a checkpoint every {results['save_every']}",
    ]


def _damage(results: Mapping[str, Any]) -> list[str]:
    cases = results["cases"]
    of = Counter(case["outcome"] for case in cases)
    kinds = ", ".join(f"{kind} {sum(n.values())}" for kind, n in results["by_kind"].items())
    return [
        "one file of a checkpoint corrupted, then restored",
        f"{len(cases)} corruptions of {len({(c['family'], c['file']) for c in cases})} files ({kinds})",
        f"{of[WRONG]} restored wrong",
        f"{of[DETECTED]} detected, and the checkpoint before it used; {of[HARMLESS]} in bytes that no restore reads; "
        f"{sum(case['offline'] for case in cases)} detected by the files' own checksums",
    ]


def _elastic(results: Mapping[str, Any]) -> list[str]:
    cases = results["cases"]
    pairs = {pair for case in cases for pair in itertools.pairwise(case["plans"])}
    plans = {plan for case in cases for plan in case["plans"]}
    worst, same = max(case["apart"] for case in cases), max(results["undisturbed_on_eight"].values())
    boundaries = sum(counts["boundaries"] for counts in results["boundaries"].values())
    return [
        "resumed on other devices, meshes, rules and processes",
        f"{len(pairs)} ordered pairs of {len(plans)} plans in {len(cases)} runs of {len({c['family'] for c in cases})} "
        f"families; {boundaries:,} batch boundaries",
        f"{sum(bool(case['problems']) for case in cases)} runs with an example missed or repeated, or a loss further away "
        f"than {results['tolerance']:g}",
        f"losses at most {worst:.1e} from those of one device; {same:.1e} without a change, on eight devices",
    ]


def _flat(results: Mapping[str, Any]) -> list[str]:
    (long,), usual = results["cases"], results["usual"]
    idle, ratios = usual["idle"], usual["block_ms"]["ratios"]
    overhead = f"; with logs and saves a step takes {median(ratios):.3f} times as long as without" if ratios else ""
    return [
        "a long run, and the costs of a usual one",
        f"{long['steps']:,} steps of {long['name']}; {usual['steps']:,} of {usual['name']}",
        f"median of the first third and of the last: {_change(long['rss_mb'], 1)} MB, {_change(long['step_ms'], 2)} ms a step; "
        f"least of the second third and of the last: {_change(long['threads'])} threads, {_change(long['files'])} open files",
        f"the device idle for {sum(idle.values()):.2%} of the time: after a log {idle['log']:.2%}, after a save "
        f"{idle['save']:.2%}, else {idle['other']:.2%}{overhead}",
    ]


def _change(pair: Sequence[float], digits: int = 0) -> str:
    return f"{pair[0]:,.{digits}f} to {pair[1]:,.{digits}f}"


ROWS = {
    "kills": _kills,
    "damage": _damage,
    "elastic": _elastic,
    "flat": _flat,
}


# ---- The page's table


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """{part: its results} -> a Markdown table, followed by a note for each part on the machine and versions."""
    parts = [part for part in ROWS if part in results]
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(ROWS[part](results[part]) for part in parts)]
    notes = [_note(part, results[part]) for part in parts]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n\n" + "\n".join(dict.fromkeys(notes))


def _note(part: str, results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    return (
        f"- {part}: {machine['cpu']}, {machine['cores']} cores; JAX {versions['jax']}, Orbax {versions['orbax-checkpoint']}; "
        f"{results['measured']}, commit {results['commit']}, seed {results['seed']}."
    )


def committed(folder: Path = RESULTS) -> dict[str, Any]:
    """{part: its committed results}."""
    return {part: read_json(folder / f"{part}.json") for part in ROWS if (folder / f"{part}.json").exists()}


def split(path: Path) -> tuple[str, str, str]:
    """A document -> the text up to and including the first marker, the text between the markers, and the text from the second on.

    Raises UserError unless it has each marker once, in order.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: wants one line {BEGIN} and, after it, one line {END}")
    head, after = text.split(BEGIN)
    between, tail = after.split(END)
    return head + BEGIN, between.strip("\n"), END + tail


def write_page(path: Path, folder: Path = RESULTS) -> None:
    """Rewrites the table between the markers of the document `path` from the results in `folder`."""
    head, _, tail = split(path)
    write_text(path, f"{head}\n\n{table(committed(folder))}\n\n{tail}")


def problems(root: Path = ROOT) -> list[str]:
    """One line for each difference between the page's table and the committed results."""
    try:
        results = committed(root / "tools" / "stress_results")
        if not results:
            return []
        between = split(root / RELIABILITY_PAGE)[1]
    except UserError as e:
        return [str(e)]
    try:
        expected = table(results).splitlines()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        return [f"{RESULTS.name}: not as almanac stress writes it: {type(e).__name__}: {e}"]
    actual = between.splitlines()
    lines = [f"{RELIABILITY_PAGE}, stress: no line {line!r}" for line in expected if line not in actual]
    lines += [f"{RELIABILITY_PAGE}, stress: no result says {line!r}" for line in actual if line not in expected]
    return lines or (
        [] if actual == expected else [f"{RELIABILITY_PAGE}, stress: the lines are right but their order is not"]
    )
