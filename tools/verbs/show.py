"""`almanac show NAME [--config.KEY=VALUE ...]`"""

import argparse

from experiments import options
from research.core import config


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac show", allow_abbrev=False,
        description="Prints the resolved config, the parameters with their shardings, the batch and a step's FLOPs.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", help="FAMILY/NAME, or a run's config.json")
    args, changes = options.overrides(argv, parser)
    cfg = config.load(args.name, changes)

    from tools.verbs import show_experiment

    show_experiment.show(cfg)
    return 0
