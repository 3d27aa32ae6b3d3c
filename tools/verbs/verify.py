"""`almanac verify`: recomputes every results table from the committed logs and configs."""

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
    """One line for each disagreement between tables, logs and configs; empty if there is none."""
    root, configs = root or ROOT, ledger.configs()
    try:
        stated, blocks = ledger.stated(configs), list(ledger.blocks(root, configs))
    except UserError as error:
        return [str(error)]
    lines = []
    for folder in sorted(root.glob("experiments/*/results/*/")):
        lines += [f"{folder.relative_to(root)}: {text}" for text in _log_problems(folder, configs)]
    for block in blocks:
        try:
            actual, expected = ledger.split(block.path)[1], ledger.table(root, stated, block)
        except UserError as error:
            lines.append(str(error))
        else:
            lines += [f"{block.path.relative_to(root)}: {text}" for text in _table_problems(actual, expected)]
    lines += stress_table.problems(root)
    return list(dict.fromkeys(lines))


def _log_problems(folder: Path, configs: dict[str, dict[str, Any]]) -> list[str]:
    """The disagreements of a folder of logs with its run.json and with the current config."""
    name = f"{folder.parent.parent.name}/{folder.name}"
    if name not in configs:
        return ["holds logs of a config that no longer exists"]
    try:
        run = run_logs.read_json(folder / "run.json", run_logs.RECORD)
    except UserError as error:
        return [str(error)]
    now, then = (ledger.same_experiment(config) for config in (configs[name], upgrade.of_file(run)))
    lines = [
        f"{key} is {current!r} in the config, {logged!r} in the logged runs"
        for key, (current, logged) in run_logs.differences([now, then]).items()
    ]
    sums = {f"seed_{k}.jsonl": seed["sha256"] for k, seed in enumerate(run["seeds"])}
    try:
        logs = {log.name: ledger.sha256(log) for log in ledger.seed_logs(folder)}
    except UserError as error:
        return [*lines, str(error)]
    for log in sorted(sums.keys() | logs.keys()):
        if log not in logs or log not in sums:
            lines.append(f"{log} is {'missing' if log not in logs else 'not in run.json'}")
        elif logs[log] != sums[log]:
            lines.append(f"{log} is not the file that run.json has the checksum of")
    return lines


def _table_problems(actual: str, expected: str) -> list[str]:
    """The differences, cell by cell, between a document's table and the recomputed one."""
    if actual == expected:
        return []
    old, new = ledger.parse(actual), ledger.parse(expected)
    lines = [f"row {row!r} is missing" for row in new if row not in old]
    lines += [f"row {row!r} has no config or log behind it" for row in old if row not in new]
    for row in (row for row in new if row in old and new[row] != old[row]):
        if len(old[row]) != len(new[row]):
            lines.append(f"row {row!r} has {len(old[row])} cells, not {len(new[row])}")
            continue
        for column, cell, recomputed in zip(ledger.COLUMNS, old[row], new[row], strict=False):
            if cell != recomputed:
                lines.append(f"{row}, {column}: says {cell!r}, logs and config say {recomputed!r}")
    return lines or ["the rows are right but their order or spacing is not"]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac verify",
        description=(
            "Recomputes every results table from the committed logs and configs. "
            "Prints each difference; the exit status is 1 if there is any."
        ),
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="first rewrite the tables (after the text of a config changed)",
    )
    args = parser.parse_args(argv)
    if args.write:
        configs = ledger.configs()
        families = {block.family for block in ledger.blocks(ROOT, configs)}
        for path in ledger.refresh(ROOT, configs, families):
            print(f"wrote {path.relative_to(ROOT)}")
    for text in (lines := problems()):
        print(visible(text), file=sys.stderr)
    if not lines:
        print("Every table agrees with its logs.")
    return 1 if lines else 0
