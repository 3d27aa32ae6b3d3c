"""`almanac promote CANDIDATE --over CURRENT [--data DATASET] [--server URL --model NAME --bundles FOLDER]`"""

import argparse
import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from research.run import object_store
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.escape import visible

FILE = "promotion.json"  # in the candidate's run directory


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac promote",
        description="Compares two classifiers row by row. The candidate passes if it is shown to be at most the margin worse on "
        "old data and, with --data, better on new; else the exit status is 1. Writes promotion.json into its run directory.",
        epilog="docs/promote.md says which tests these are, and how many rows they need.",
    )
    local = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="a run directory on this machine")
    parser.add_argument("--over", type=local, required=True, metavar="CURRENT", help="the run that it is to replace")
    parser.add_argument("--split", help="of the current run's data, the old data (default: valid, else its first)")
    parser.add_argument("--data", type=Path, metavar="DATASET", help="of `almanac feedback export`: its held-out rows")
    parser.add_argument("--margin", type=float, default=0.01, help="of accuracy on old data (default: 0.01)")
    parser.add_argument("--level", type=float, default=0.05, help="of each test, one-sided (default: 0.05)")
    server = parser.add_argument_group("server", "where a candidate that passes becomes the version that answers")
    server.add_argument("--server", metavar="URL", help="of `almanac serve --models FOLDER`")
    server.add_argument("--model", metavar="NAME", help="the model's name there")
    server.add_argument("--bundles", type=Path, metavar="FOLDER", help="the server's FOLDER, to export a bundle to")
    server.add_argument("--token-file", type=Path, metavar="FILE", help="with the secret of a token that is admin")
    args = parser.parse_args(argv)
    if not (0 < args.margin < 1 and 0 < args.level < 0.5):
        raise UserError(f"--margin={args.margin}: between 0 and 1; --level={args.level}: between 0 and 0.5")
    client = _client(args)

    from research.data import feedback_sets
    from research.run import reopen
    from research.serving import promotion
    from research.util.files import write_errors, write_json

    candidate, current = (promotion.Model(*reopen.load(run)[:2]) for run in (args.candidate, args.over))
    promotion.check_pair(candidate, current)
    split = _split(current.experiment.evals, args.split)
    compare = functools.partial(promotion.compare, candidate, current, level=args.level)
    known = promotion.trained_on(candidate) | promotion.trained_on(current)
    old, new = compare(current.experiment.evals[split], known), None
    if args.data is not None:
        new = compare(promotion.new_rows(current, args.data), known)
    why = promotion.objection(old, new, args.margin, args.level)
    verdict = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "candidate": {"run": str(args.candidate), **promotion.describe(candidate)},
        "current": {"run": str(args.over), **promotion.describe(current)},
        "margin": args.margin,
        "level": args.level,
        "old": {"split": split, **old._asdict()},
        "new": new and {"data": str(args.data), "sha256": feedback_sets.digest(args.data), **new._asdict()},
        "promoted": not why,
        "why": why,
    }
    with write_errors(args.candidate):
        write_json(args.candidate / FILE, verdict)
    print("\n".join(_table({f"old, {split}": old, "new": new}, args.level)))
    print(f"refused: {why}" if why else "promoted")
    if client is not None and not why:
        _serve(client, args, candidate, verdict["candidate"])
    return int(bool(why))


def _split(splits: Mapping[str, Any], name: str | None) -> str:
    name = name or ("valid" if "valid" in splits else next(iter(splits)))
    if name not in splits:
        raise UserError(f"--split={name}: the current run has no such split{nearest(name, splits)}")
    return name


def _table(rows: Mapping[str, Any], level: float) -> list[str]:
    """Lines: a head, and one for each comparison."""
    interval = f"{1 - 2 * level:.0%} interval"
    lines = [
        f"{'data':<14}{'rows':>8}{'left out':>10}{'current':>9}{'candidate':>11}{'difference':>12}{interval:>21}"
        f"{'wins':>6}{'losses':>8}{'p':>10}"
    ]
    for name, row in rows.items():
        if row is None:
            lines.append(f"{name:<14}not compared: give --data")
            continue
        bounds = f"{row.low:+.4f} to {row.high:+.4f}"
        lines.append(
            f"{visible(name):<14}{row.rows:>8,}{row.left_out:>10,}{row.current:>9.4f}{row.candidate:>11.4f}"
            f"{row.difference:>+12.4f}{bounds:>21}{row.wins:>6,}{row.losses:>8,}{row.p:>10.3g}"
        )
    return lines


def _client(args: argparse.Namespace) -> Any:
    """A client of the server, which has answered once; None without --server."""
    given = {"--model": args.model, "--bundles": args.bundles, "--token-file": args.token_file}
    if args.server is None:
        for name, value in given.items():
            if value is not None:
                raise UserError(f"{name}={value}: is for --server URL; give that too")
        return None
    if args.model is None or args.bundles is None or not args.bundles.is_dir():
        raise UserError("--server: give the model's name there, --model, and the folder of its --models as --bundles")
    from research.serving.web.admin_client import AdminClient

    token = args.token_file and run_files.read_text(args.token_file, most=4096).strip()
    client = AdminClient(args.server, args.model, token)
    client.latest()
    return client


def _serve(client: Any, args: argparse.Namespace, candidate: Any, about: Mapping[str, Any]) -> None:
    """Exports the candidate to the server's folder, loads it there and makes it the version that answers."""
    from research.serving import packing

    folder = f"{args.candidate.resolve().name}-{about['step']}-{about['parameters_sha256'][:12]}"
    e, state = candidate
    packing.pack(args.bundles / folder, e, state, packing.of_run(e, state, args.candidate, None))
    before = client.latest()
    try:
        number = client.load(folder)
        client.switch(number)
    except UserError as error:
        raise UserError(f"promoted, and not served: {error}; version {before} of {args.model} stays") from None
    print(
        f"version {number} of {visible(args.model)} answers now, after {before}; --models has it as {visible(folder)}"
    )
