"""`almanac feedback export FOLDER ... --model NAME --out DATASET` and `almanac feedback forget FOLDER ID ...`"""

import argparse
import time
from pathlib import Path

from research.data import user_files
from research.serving.monitor import datasets, store
from research.util.errors import UserError
from research.util.escape import visible


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac feedback",
        description="What came back of the answers of `almanac serve --monitor FOLDER --capture`: exports it as a data set to "
        "train on, or deletes what requests left.",
        epilog="docs/feedback.md says how feedback arrives, what is captured, and what is taken out of texts first.",
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="export|forget")
    export = parts.add_parser("export", help="rows that are captured and have a label, as a data set")
    export.add_argument("folders", nargs="+", metavar="FOLDER")
    export.add_argument("--model", required=True, metavar="NAME", help="by which it was served")
    export.add_argument("--out", required=True, type=Path, metavar="DATASET", help="a new folder")
    export.add_argument(
        "--kind", choices=["conversations"], help="of a language model: corrected answers, and those rated 1"
    )
    forget = parts.add_parser("forget", help="delete all that requests left, from every file of the folder")
    forget.add_argument("folder", type=Path, metavar="FOLDER")
    forget.add_argument("ids", nargs="*", metavar="REQUEST_ID")
    forget.add_argument("--file", type=Path, metavar="FILE", help="with a request id a line")
    args = parser.parse_args(argv)
    if args.part == "export":
        return _export(args.folders, args.model, args.out, args.kind is not None)
    return _forget(args.folder, args.ids, args.file)


def _export(folders: list[str], model: str, out: Path, of_conversations: bool) -> int:
    kinds = (datasets.CONVERSATIONS,) if of_conversations else datasets.LABELLED
    print(table(datasets.export(folders, model, out, time.time(), kinds)))
    print(visible(out))
    return 0


def table(report: datasets.Report) -> str:
    """Rows by group and side, what was left out, and the digest."""
    rows = [("", "train", "held out"), *((visible(name), *counts) for name, counts in report.groups.items())]
    rows.append(("all", *(sum(counts) for counts in zip(*report.groups.values(), strict=True))))
    width = max(len(str(row[0])) for row in rows)
    lines = [f"{name:{width}}  {train:>7}  {held_out:>8}" for name, train, held_out in rows]
    lines += [f"left out: {count:,} {reason}" for reason, count in report.left_out.items()]
    return "\n".join([*lines, f"sha256 {report.digest} of its manifest.json"])


def _forget(folder: Path, ids: list[str], file: Path | None) -> int:
    ids = [*ids, *([] if file is None else filter(None, map(str.strip, user_files.lines(user_files.read(file)))))]
    if not ids:
        raise UserError("no request to forget: give its id, or --file with an id a line")
    if not (folder / store.FILE).is_file():
        raise UserError(f"{folder}: there is no {store.FILE}; give a folder of `almanac serve --monitor`")
    there, counts = store.Store(folder).forget(ids)
    deleted = ", ".join(f"{counts[table]:,} {table}" for table in ("answers", "captured", "feedback"))
    print(f"{len(there):,} of {len(set(ids)):,} requests were there, and are deleted: {deleted}")
    print("data sets that were exported before still have their rows: delete those sets, and export again")
    return 0
