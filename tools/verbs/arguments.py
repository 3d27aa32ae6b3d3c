"""Arguments that several verbs take."""

import argparse
import functools

from research.run import object_store


def add_run(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a run and one of its checkpoints."""
    local = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("run", type=local, metavar="RUN", help="a run directory")
    parser.add_argument("--checkpoint", default="best", metavar="best|last|STEP", help="default: best, else last")
