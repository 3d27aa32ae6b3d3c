"""`almanac train [NAME] [--workdir DIR] [--config.KEY=VALUE ...]`"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import launch
from research.core import config

MAIN_JOB = "language_model/pydoc_char"


def trainer(name: str) -> Callable:
    """`family/name` -> the family's `train`."""
    return importlib.import_module(f"{config.EXPERIMENTS}.{name.split('/')[0]}.train").train


def run(name: str, overrides: Sequence[str], workdir: Path) -> None:
    """Trains to the end in `workdir`, or goes on there."""
    trainer(name)(config.load(name, overrides), workdir)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac train", allow_abbrev=False, epilog="config keys: almanac show NAME",
        description="Trains an experiment, or goes on where its run directory stopped.",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default=MAIN_JOB, metavar="NAME", help=f"FAMILY/NAME (default: {MAIN_JOB})")
    args, overrides = launch.parse(argv, parser)
    cfg = config.load(args.name, overrides)
    folder = launch.run(trainer(cfg.name), cfg, args)
    _report(folder)
    _next_steps(folder, cfg.name)
    return 0


def _report(folder: Path) -> None:
    from tools import report

    page = report.write([folder], folder)
    print(f"\n{page}\n{folder / 'curves.png'}")


def _next_steps(folder: Path, name: str) -> None:
    samples = sorted((folder / "samples").glob("*.txt"))
    if samples:
        print(f"\n{samples[-1]}\n{samples[-1].read_text(encoding='utf-8').strip()}")
    verb = "sample" if name.startswith(("language_model", "gan")) else "evaluate"
    almanac = "./almanac" if Path("almanac").is_file() else "almanac"
    print(f"\nNext:\n  {almanac} {verb} {folder}\n  {almanac} show {name}\n  {almanac} list")
