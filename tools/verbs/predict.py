"""`almanac predict RUN|BUNDLE FILE...`"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from research.util.errors import UserError
from research.util.escape import json_line
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac predict",
        description="Applies a run, or a bundle that `almanac export` wrote, to files and prints one JSON object per file, "
        "or per frame of a video, each on a line.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a file, or a folder: of it every file that can be read"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write pictures with what was found, and predictions.jsonl"
    )
    args = parser.parse_args(argv)

    codec, predict = _opened(args.run, args.checkpoint)
    if args.out and codec.draw is None:
        raise UserError("--out: this run's family draws no pictures; leave it out")
    lines, done, skipped = [], 0, 0
    files = list(arguments.files(args.files))
    if args.out:
        _check_names([name or Path(file).name for file, name in files])
    for file, name in files:
        try:
            for place, value in _values(codec, file):
                decoded = _predicted(predict, value, file)
                line = json_line({"file": file, **place, **decoded}, sys.stdout.encoding)
                print(line)
                if args.out:
                    lines.append(line)
                    _save(args.out / (name or Path(file).name), codec, value, decoded)
        except UserError as error:
            if not name:
                raise
            print(f"skipped {error}", file=sys.stderr)
            skipped += 1
            continue
        done += 1
    if skipped:
        print(f"skipped {skipped} of {skipped + done} files", file=sys.stderr)
    if args.out and lines:
        (args.out / "predictions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _opened(folder: Path, checkpoint: str) -> tuple[Any, Callable[[Any], Mapping]]:
    """A run or a bundle -> its codec, and value -> what `decode` returns."""
    from research.run.open_run import open_run
    from research.serving.bundle import is_bundle, open_bundle

    if not is_bundle(folder):
        run = open_run(folder, checkpoint)
        return run.experiment.predictor.codec, run.predict
    bundle = open_bundle(folder, checkpoint)
    return bundle.codec, bundle.predict


def _values(codec: Any, file: str) -> Iterator[tuple[Mapping, Any]]:
    """What a file holds: one value, or those of a stream, each with its place; then how many of them a second were predicted."""
    if codec.stream is None:
        yield {}, codec.read(Path(file))
        return
    count, start = 0, 0.0
    for piece in codec.stream(Path(file)):
        yield piece
        count += 1
        start = start or time.perf_counter()  # after the first, which waits for the compiler
    if count > 1:
        rate = (count - 1) / (time.perf_counter() - start)
        print(f"{file}: {count:,} windows, {rate:,.0f} frames a second", file=sys.stderr)


def _save(path: Path, codec: Any, value: Any, decoded: Mapping) -> None:
    """Writes PATH.png, and PATH.NAME.png of each further picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec.draw(value, decoded).save(f"{path}.png")
    for name, picture in codec.further_pictures(value, decoded).items():
        picture.save(f"{path}.{name}.png")


def _check_names(names: list[str]) -> None:
    """Raises UserError if the pictures of two files would have one name."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"--out: {count} files would be written to {name}.png; predict them into folders of their own")


def _predicted(predict: Any, value: Any, file: str) -> Mapping:
    try:
        return predict(value)
    except UserError as e:
        raise UserError(f"{file}: {e}") from None
