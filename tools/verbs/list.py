"""`almanac list [FAMILY]`: every experiment, the number it reproduces and its cost."""

import argparse
import ast
import shutil
import sys

from research.run import run_logs
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.run_files import COUNT, Shape, maybe
from tools.results import ledger
from tools.root import ROOT

PARAMETERS = Shape({}, {"parameters": maybe(COUNT)})  # of run.json


def lines(family: str | None = None, root=ROOT) -> list[str]:
    """A heading for each family (or only for `family`) and a line for each config, in aligned columns.

    Raises UserError if there is no such family.
    """
    configs = ledger.configs()
    families = {name.partition("/")[0] for name in configs}
    if family and family not in families:
        raise UserError(f"no family {family!r}{nearest(family, families)}")
    rows = []
    for name, config in configs.items():
        if family in (None, (owner := name.partition("/")[0])):
            rows.append((owner, *_row(root, name, config)))
    widths = [max(len(row[i]) for row in rows) for i in range(1, 5)] if rows else []
    text, heading = [], None
    for owner, short, parameters, published, cost, about in rows:
        if owner != heading:
            text += [owner] if heading is None else ["", owner]
            heading = owner
        text.append(
            f"  {short:{widths[0]}}  {parameters:>{widths[1]}}  {published:{widths[2]}}  "
            f"{cost:{widths[3]}}  {about}".rstrip()
        )
    return text


def _row(root, name: str, config: dict) -> tuple[str, str, str, str, str]:
    """-> name, parameters, published numbers, cost and the first line of the config's docstring; "-" for an unknown value."""
    family, _, short = name.partition("/")
    run = ledger.results(root, name) / "run.json"
    parameters = run_logs.read_json(run, PARAMETERS).get("parameters") if run.exists() else None
    targets = ledger.targets(name, config)
    published = ", ".join(f"{t['metric']} {t['value']:g}" for t in targets if "value" in t)
    file = root / "experiments" / family / "configs" / f"{short}.py"
    about = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    return (
        short,
        f"{parameters:,}" if parameters else "-",
        published or "-",
        targets[0].get("cost", "-") if targets else "-",
        (about or "").partition("\n")[0],
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac list",
        description=(
            "Lists every config: parameters (once it has been run), published number, cost of a seed, description."
        ),
    )
    parser.add_argument("family", nargs="?", help="only the configs of this family")
    args = parser.parse_args(argv)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(visible(line)[:width] for line in lines(args.family)))
    return 0
