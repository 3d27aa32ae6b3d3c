"""`almanac pipe STAGE STAGE ... [--input FILE ... | --lines FILE | --jsonl FILE] [--json] [--oracle FILE]`"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from research.util.errors import UserError
from research.util.escape import json_line, visible
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac pipe",
        description="Runs models one after another, each on what the one before it gives, and prints a line a row as soon as the "
        "row is through; then how long each stage took, on stderr. The exit status is 1 if a row failed.",
        epilog="docs/pipe.md says what each family takes and gives.",
    )
    parser.add_argument("stages", nargs="+", metavar="[NAME=]STAGE", help="a run or a bundle, and a name for it")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--input",
        nargs="+",
        metavar="FILE",
        help="each file is a row, as `almanac predict` reads it; or a folder of files",
    )
    rows.add_argument(
        "--lines", default="-", metavar="FILE",
        help="each line is a row: a text, or of other kinds the path of a file (default: -, standard input)",
    )  # fmt: skip
    rows.add_argument("--jsonl", metavar="FILE", help="each line is a row as JSON, as `POST /v1/predict` takes one")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object a row: every stage's output and its seconds"
    )
    parser.add_argument(
        "--oracle", type=Path, metavar="FILE", help="JSON lines, a row each: the true output of stages by name"
    )
    parser.add_argument(
        "--length", type=int, default=128, help="tokens that a language model adds, at most (default: 128)"
    )
    args = parser.parse_args(argv)
    if args.length < 1:
        raise UserError(f"--length={args.length}: at least 1")

    from research.serving import chain, oracle, stage
    from research.serving.servable import from_folder
    from tools.verbs import pipe_rows, pipe_table

    named = [arguments.named(text) for text in args.stages]
    stages = [stage.of(from_folder(folder, name), args.length) for name, folder in named]
    chain.check(stages)
    truths = None if args.oracle is None else oracle.read(args.oracle, stages)
    source = pipe_rows.read(stages[0], args.input, args.lines, args.jsonl)
    passed = []
    for row in chain.run(stages, source if truths is None else _with_truth(source, truths, args.oracle)):
        shown = pipe_rows.as_object(stages, row) if args.json else pipe_rows.as_line(stages, row)
        print(json_line(shown, sys.stdout.encoding) if args.json else visible(shown), flush=True)
        passed.append(dataclasses.replace(row, value=None, outputs=row.outputs if truths else []))
    if truths is not None and len(passed) < len(truths):
        raise UserError(f"--oracle={args.oracle}: {len(truths):,} lines and {len(passed):,} rows; want one a row")
    print("\n".join(pipe_table.lines(stages, passed, oracle.scores(stages, passed))), file=sys.stderr)
    return int(any(row.error for row in passed))


def _with_truth(rows: Iterable[Any], truths: Sequence[dict[int, Any]], file: Path) -> Iterable[Any]:
    """The rows with their true outputs. Raises UserError if there are more rows than lines."""
    for number, row in enumerate(rows):
        if number == len(truths):
            raise UserError(f"--oracle={file}: {len(truths):,} lines, and there are more rows; want one a row")
        row.truth = truths[number]
        yield row
