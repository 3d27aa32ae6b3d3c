"""Arguments that several verbs have in common."""

import argparse
import functools

from research.run import object_store


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
