"""Arguments that several verbs have in common."""

import argparse
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from research.run import object_store
from research.util.errors import UserError


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds RUN and --checkpoint. A run in an object store is fetched when the argument is parsed."""
    local = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("run", type=local, metavar="RUN", help="a run directory")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best if there is one, else last"
    )


def named(text: str) -> tuple[str | None, str]:
    """`NAME=RUN` or `RUN` -> (name or None, run).

    >>> named("tiny=runs/a"), named("runs/a=b")
    (('tiny', 'runs/a'), (None, 'runs/a=b'))
    """
    name, equals, run = text.partition("=")
    return (name, run) if equals and "/" not in name else (None, text)


def files(paths: list[str]) -> Iterator[tuple[str, str]]:
    """(path, its name inside the folder that was given; empty if it was given itself)."""
    from research.data import user_files

    for path in paths:
        root = Path(path)
        if not root.is_dir():
            yield path, ""
            continue
        found, faults = user_files.listing(root)
        for fault in faults:
            print(f"skipped {fault}", file=sys.stderr)
        if not found:
            raise UserError(f"{path} holds no file")
        yield from ((str(file), file.relative_to(root).as_posix()) for file in found)
