"""The options that a run has on a command line, each read and checked. No JAX: `--help` and a mistake need not wait for it."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.cluster import membership, rendezvous
from research.run import object_store
from research.util.errors import UserError

DEFAULT_ROOT = "runs"
TIMEOUTS = {
    "start": (rendezvous.START_TIMEOUT, "for every host to arrive"),
    "host": (membership.HOST_TIMEOUT, "without a word from a host until it is taken for lost"),
    "stall": (membership.STALL_TIMEOUT, "without a step until the host that is behind is named and the others stop"),
}


class Hosts(NamedTuple):
    """How many hosts there are, which one this is, and where they meet (None: as JAX detects), each checked."""

    number: int | None
    host: int | None
    coordinator: str | None


def parse(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Adds the options of a run, and takes `--config.KEY=VALUE` (or `--config.KEY VALUE`) apart from the rest."""
    parser.add_argument("--workdir", help=f"the run directory (default: {DEFAULT_ROOT}/FAMILY/NAME)")
    parser.add_argument("--resume", default="auto", metavar="auto|force", help="force: go on with a changed config")
    parser.add_argument("--device", metavar="cpu|gpu|tpu", help="fail where it is absent (default: what JAX finds)")
    parser.add_argument("--profile", metavar="A:B", help="trace steps A to B of this start for TensorBoard")
    parser.add_argument(
        "--init-from", metavar="RUN|FOLDER", help="begin with a run's parameters, or Hugging Face weights"
    )
    add_hosts(parser)
    for name, (seconds, what) in TIMEOUTS.items():
        parser.add_argument(f"--{name}-timeout", metavar="S", help=f"seconds {what} (default: {seconds})")
    args, changes = overrides(argv, parser)
    return args, changes + ([f"pretrained.weights={args.init_from}"] if args.init_from is not None else [])


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """The options that say who takes part."""
    parser.add_argument("--hosts", metavar="N|auto", help="several hosts, each started so; auto: as JAX detects")
    parser.add_argument("--host-id", metavar="I", help="which of them this is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="host 0's address, and a free port there")


def hosts(args: argparse.Namespace) -> Hosts | None:
    """What the command line says of hosts; None for a run on this machine alone."""
    given = {"--host-id": args.host_id, "--coordinator": args.coordinator}
    if args.hosts in (None, "auto"):
        if extra := [name for name, value in given.items() if value is not None]:
            wanted = "needs --hosts N" if args.hosts is None else "is what --hosts auto finds out; leave it away"
            raise UserError(f"{extra[0]}={given[extra[0]]} {wanted}")
        return None if args.hosts is None else Hosts(None, None, None)
    number = whole("--hosts", args.hosts, 1)
    if missing := [name for name, value in given.items() if value is None and number > 1]:
        raise UserError(f"--hosts={number} needs {missing[0]}, too")
    host = whole("--host-id", args.host_id or "0", 0)
    if host >= number:
        raise UserError(f"--host-id={host}: from 0 to {number - 1}, as --hosts={number} says")
    if args.coordinator is not None:
        rendezvous.address(args.coordinator)
    return Hosts(number, host, args.coordinator) if number > 1 else None


def whole(option: str, text: str, least: int) -> int:
    """An option's value as an int of at least `least`."""
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UserError(f"{option}={text}: a whole number, at least {least}")
    return int(text)


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


def timeouts(args: argparse.Namespace) -> dict[str, float]:
    """{"start_timeout", "host_timeout", "stall_timeout"}: seconds."""
    found = {}
    for name, (default, _) in TIMEOUTS.items():
        text = getattr(args, f"{name}_timeout")
        try:
            found[f"{name}_timeout"] = seconds = float(default if text is None else text)
        except ValueError:
            seconds = math.nan
        if not 1 <= seconds < math.inf:
            raise UserError(f"--{name}-timeout={text}: a number of seconds, at least 1")
    return found


def workdir(cfg: Any, args: argparse.Namespace) -> Path:
    """The run directory: `--workdir`, or the config's place under DEFAULT_ROOT. Raises UserError for an empty one."""
    if args.workdir == "":
        raise UserError(f"--workdir=: give a folder, or leave it away for {DEFAULT_ROOT}/{cfg.name}")
    if args.workdir is not None:
        object_store.check(args.workdir)
    return Path(DEFAULT_ROOT) / cfg.name if args.workdir is None else Path(args.workdir)


def profile(text: str | None) -> tuple[int, int] | None:
    """`A:B` -> the steps that a trace begins and ends before, counted from this start."""
    if text is None:
        return None
    try:
        first, last = map(int, text.split(":"))
        if 0 <= first < last:
            return first, last
    except ValueError:
        pass
    raise UserError(f"--profile={text}: write A:B, the first step and the one after the last")
