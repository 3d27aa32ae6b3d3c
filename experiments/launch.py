"""From a command line to `train(cfg, workdir)`: the same for `almanac train` and `python -m experiments.<family>.train`."""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from research.core import config
from research.host import device
from research.host.errors import UserError

DEFAULT_ROOT = "runs"


def parse(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Adds the options of a run, and takes `--config.KEY=VALUE` (or `--config.KEY VALUE`) apart from the rest."""
    parser.add_argument("--workdir", help=f"the run directory (default: {DEFAULT_ROOT}/FAMILY/NAME)")
    parser.add_argument("--resume", default="auto", metavar="auto|force", help="force: go on with a changed config")
    parser.add_argument("--device", metavar="cpu|gpu|tpu", help="fail where it is absent (default: what JAX finds)")
    parser.add_argument("--profile", metavar="A:B", help="trace steps A to B of this start for TensorBoard")
    return overrides(argv, parser)


def overrides(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """The parser's arguments, and the `--config.` words as `key=value`; any other word is a usage error."""
    # Before argparse, which takes "--config.num_steps=3 epochs", or the 3 of "--config.seed 3", for a positional.
    changes, others = _take(argv)
    args, rest = parser.parse_known_args(others)
    if rest:
        parser.error(f"unknown argument {rest[0]!r} (config keys are set by --config.KEY=VALUE)")
    return args, changes


def _take(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line -> its overrides as `key=value`, and its other words."""
    found, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            others.append(word)
            continue
        if "=" not in word and words and not words[0].startswith("--"):
            word += "=" + words.pop(0)
        found.append(word.removeprefix("--config."))
    return found, others


def run(train: Callable, cfg: Any, args: argparse.Namespace) -> Path:
    """Chooses the device, switches the compilation cache on and trains. Returns the run directory."""
    device.choose(args.device)
    device.use_compilation_cache()
    workdir = Path(args.workdir or Path(DEFAULT_ROOT) / cfg.name)
    train(cfg, workdir, resume=args.resume, profile=_profile(args.profile))
    return workdir


def _profile(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        first, last = map(int, text.split(":"))
        if 0 <= first < last:
            return first, last
    except ValueError:
        pass
    raise UserError(f"--profile={text}: write A:B, the first step and the one after the last")


def main(train: Callable) -> None:
    """`if __name__ == "__main__": launch.main(train)` of a family's train.py."""
    family = sys.modules["__main__"].__spec__.name.split(".")[-2]  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=f"Trains a config of {family}.", allow_abbrev=False)
    parser.add_argument(
        "--config", required=True, metavar="NAME", help="a config of this family, or a run's config.json"
    )

    def go() -> int:
        args, changes = parse(sys.argv[1:], parser)
        name = args.config if args.config.endswith(".json") else f"{family}/{args.config}"
        print(run(train, config.load(name, changes), args))
        return 0

    sys.exit(guarded(go))


def guarded(go: Callable[[], int]) -> int:
    """Runs `go`; the user's mistake is one line and status 2."""
    try:
        return go()
    except UserError as e:
        print(f"almanac: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        print(f"almanac: no space left to write {e.filename or 'a file'}; free some and start again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("almanac: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
