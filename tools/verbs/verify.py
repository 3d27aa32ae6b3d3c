"""almanac verify: recompute every results table from the committed logs and configs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from research.core import upgrade
from research.run import run_logs
from research.util.errors import UserError
from research.util.escape import visible
from tools.results import ledger, stress_table
from tools.root import ROOT


def problems(root: Path | None = None) -> list[str]:
    """One line for each thing in which tables, logs and configs disagree; empty when all agree."""
    root, known = root or ROOT, ledger.configs()
    try:
        stated, blocks = ledger.stated(known), list(ledger.blocks(root, known))
    except UserError as error:
        return [str(error)]
    found = []
    for folder in sorted(root.glob("experiments/*/results/*/")):
        found += [f"{folder.relative_to(root)}: {text}" for text in _log_problems(folder, known)]
    for block in blocks:
        try:
            has, wants = ledger.split(block.path)[1], ledger.table(root, stated, block)
        except UserError as error:
            found.append(str(error))
        else:
            found += [f"{block.path.relative_to(root)}: {text}" for text in _table_problems(has, wants)]
    found += stress_table.problems(root)
    return list(dict.fromkeys(found))


def _log_problems(folder: Path, known: dict[str, dict[str, Any]]) -> list[str]:
    """Where a folder of logs disagrees with its own run.json, or with today's config."""
    name = f"{folder.parent.parent.name}/{folder.name}"
    if name not in known:
        return ["holds logs of a config that no longer exists"]
    try:
        run = run_logs.read_json(folder / "run.json", run_logs.RECORD)
    except UserError as error:
        return [str(error)]
    now, then = (ledger.same_experiment(config) for config in (known[name], upgrade.of_file(run)))
    found = [
        f"{key} is {today!r} in the config, {logged!r} in the logged runs"
        for key, (today, logged) in run_logs.differences([now, then]).items()
    ]
    sums = {f"seed_{k}.jsonl": seed["sha256"] for k, seed in enumerate(run["seeds"])}
    try:
        logs = {log.name: ledger.sha256(log) for log in ledger.seed_logs(folder)}
    except UserError as error:
        return [*found, str(error)]
    for log in sorted(sums.keys() | logs.keys()):
        if log not in logs or log not in sums:
            found.append(f"{log} is {'missing' if log not in logs else 'not in run.json'}")
        elif logs[log] != sums[log]:
            found.append(f"{log} is not the file that run.json has the checksum of")
    return found


def _table_problems(has: str, wants: str) -> list[str]:
    """Cell by cell, where a document's table is not what logs and configs say."""
    if has == wants:
        return []
    old, new = ledger.parse(has), ledger.parse(wants)
    found = [f"row {row!r} is missing" for row in new if row not in old]
    found += [f"row {row!r} has no config or log behind it" for row in old if row not in new]
    for row in (row for row in new if row in old and new[row] != old[row]):
        if len(old[row]) != len(new[row]):
            found.append(f"row {row!r} has {len(old[row])} cells, not {len(new[row])}")
            continue
        for column, is_, should in zip(ledger.COLUMNS, old[row], new[row], strict=False):
            if is_ != should:
                found.append(f"{row}, {column}: says {is_!r}, logs and config say {should!r}")
    return found or ["the rows are right but their order or spacing is not"]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac verify",
        description=(
            "Recompute every results table from the committed logs and configs. "
            "Names each difference and exits 1, or exits 0."
        ),
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="first write the tables anew (after a config's words changed)",
    )
    args = parser.parse_args(argv)
    if args.write:
        known = ledger.configs()
        families = {block.family for block in ledger.blocks(ROOT, known)}
        for path in ledger.refresh(ROOT, known, families):
            print(f"wrote {path.relative_to(ROOT)}")
    for text in (found := problems()):
        print(visible(text), file=sys.stderr)
    if not found:
        print("Every table is what its logs say.")
    return 1 if found else 0
