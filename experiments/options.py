"""Command-line options of a run, parsed and checked. Does not import JAX, so that `--help` and usage errors are immediate."""

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
    "start": (rendezvous.START_TIMEOUT, "to wait for all hosts to connect"),
    "host": (membership.HOST_TIMEOUT, "without a heartbeat until a host is considered lost"),
    "stall": (membership.STALL_TIMEOUT, "without a step until the slowest host is named and the others stop"),
}


class Hosts(NamedTuple):
    """The number of hosts, the index of this one, and host 0's address HOST:PORT. None: as JAX detects."""

    number: int | None
    host: int | None
    coordinator: str | None


def parse(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Adds the options of a run to `parser`, then parses -> the arguments, and the config overrides as `key=value`.

    Overrides are written `--config.KEY=VALUE` or `--config.KEY VALUE`. Other unknown words are a usage error.
    """
    parser.add_argument("--workdir", help=f"the run directory (default: {DEFAULT_ROOT}/FAMILY/NAME)")
    parser.add_argument("--resume", default="auto", metavar="auto|force", help="force: resume with a changed config")
    parser.add_argument("--device", metavar="cpu|gpu|tpu", help="fail if there is none (default: JAX's choice)")
    parser.add_argument("--profile", metavar="A:B", help="trace steps A to B of this attempt for TensorBoard")
    parser.add_argument(
        "--init-from", metavar="RUN|FOLDER", help="start with a run's parameters, or Hugging Face weights"
    )
    add_hosts(parser)
    for name, (seconds, meaning) in TIMEOUTS.items():
        parser.add_argument(f"--{name}-timeout", metavar="S", help=f"seconds {meaning} (default: {seconds})")
    args, changes = overrides(argv, parser)
    return args, changes + ([f"pretrained.weights={args.init_from}"] if args.init_from is not None else [])


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a run on several hosts."""
    parser.add_argument(
        "--hosts", metavar="N|auto", help="run on N hosts, each started with this option; auto: as JAX detects"
    )
    parser.add_argument("--host-id", metavar="I", help="the index of this host, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="the address of host 0, with a free port")


def hosts(args: argparse.Namespace) -> Hosts | None:
    """The options for several hosts, checked; None for a run on this machine alone. Raises UserError if they are inconsistent."""
    options = {"--host-id": args.host_id, "--coordinator": args.coordinator}
    if args.hosts in (None, "auto"):
        if extra := [name for name, value in options.items() if value is not None]:
            remedy = "needs --hosts N" if args.hosts is None else "is detected by --hosts auto; remove it"
            raise UserError(f"{extra[0]}={options[extra[0]]} {remedy}")
        return None if args.hosts is None else Hosts(None, None, None)
    number = parse_int("--hosts", args.hosts, 1)
    if missing := [name for name, value in options.items() if value is None and number > 1]:
        raise UserError(f"--hosts={number} needs {missing[0]}, too")
    host = parse_int("--host-id", args.host_id or "0", 0)
    if host >= number:
        raise UserError(f"--host-id={host}: from 0 to {number - 1}, as --hosts={number} says")
    if args.coordinator is not None:
        rendezvous.address(args.coordinator)
    return Hosts(number, host, args.coordinator) if number > 1 else None


def parse_int(option: str, text: str, minimum: int) -> int:
    """The value of an option as an int. Raises UserError, naming the option, unless it is at least `minimum`.

    >>> parse_int("--folds", "5", 2)
    5
    >>> parse_int("--folds", "1", 2)
    Traceback (most recent call last):
    research.util.errors.UserError: --folds=1: a whole number, at least 2
    """
    if not (text.isascii() and text.isdigit()) or int(text) < minimum:
        raise UserError(f"{option}={text}: a whole number, at least {minimum}")
    return int(text)


def overrides(argv: Sequence[str], parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Parses a command line -> the parser's arguments, and the config overrides as `key=value`.

    Any other unknown word is a usage error.
    """
    # Before argparse, which would treat "--config.num_steps=3 epochs", or the 3 of "--config.seed 3", as a positional.
    changes, others = split_overrides(argv)
    args, unknown = parser.parse_known_args(others)
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r} (config keys are set by --config.KEY=VALUE)")
    return args, changes


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into its config overrides, as `key=value`, and its other words.

    >>> split_overrides(["tiny", "--config.seed=3", "--config.num_steps", "3 epochs", "--workdir=runs/a"])
    (['seed=3', 'num_steps=3 epochs'], ['tiny', '--workdir=runs/a'])
    """
    changes, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            others.append(word)
            continue
        if "=" not in word and words and not words[0].startswith("--"):
            word += "=" + words.pop(0)
        changes.append(word.removeprefix("--config."))
    return changes, others


def timeouts(args: argparse.Namespace) -> dict[str, float]:
    """{"start_timeout", "host_timeout", "stall_timeout"}, in seconds. Raises UserError if one is not a number of at least 1."""
    values = {}
    for name, (default, _) in TIMEOUTS.items():
        text = getattr(args, f"{name}_timeout")
        try:
            values[f"{name}_timeout"] = seconds = float(default if text is None else text)
        except ValueError:
            seconds = math.nan
        if not 1 <= seconds < math.inf:
            raise UserError(f"--{name}-timeout={text}: a number of seconds, at least 1")
    return values


def workdir(cfg: Any, args: argparse.Namespace) -> Path:
    """The run directory: `--workdir`, else DEFAULT_ROOT/FAMILY/NAME. Raises UserError if it is empty or no place for a run."""
    if args.workdir == "":
        raise UserError(f"--workdir=: give a folder, or leave it out for {DEFAULT_ROOT}/{cfg.name}")
    if args.workdir is not None:
        object_store.check(args.workdir)
    return Path(DEFAULT_ROOT) / cfg.name if args.workdir is None else Path(args.workdir)


def profile(text: str | None) -> tuple[int, int] | None:
    """`A:B` -> (A, B): the trace starts before step A and ends before step B, counted from this attempt's first. None -> None.

    Raises UserError unless 0 <= A < B.

    >>> profile("3:5")
    (3, 5)
    """
    if text is None:
        return None
    try:
        first, last = map(int, text.split(":"))
        if 0 <= first < last:
            return first, last
    except ValueError:
        pass
    raise UserError(f"--profile={text}: write A:B, the first step and the one after the last")
