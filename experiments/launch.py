"""From a command line to `train(cfg, workdir)`: the same for `almanac train` and `python -m experiments.<family>.train`."""

import argparse
import contextlib
import errno
import logging
import math
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from research.core import config
from research.host import cluster, cpu, determinism, device, processes, rendezvous
from research.host.errors import UserError

DEFAULT_ROOT = "runs"
TIMEOUTS = {
    "start": (rendezvous.START_TIMEOUT, "for every host to arrive"),
    "host": (cluster.HOST_TIMEOUT, "without a word from a host until it is taken for lost"),
    "stall": (cluster.STALL_TIMEOUT, "without a step until the host that is behind is named and the others stop"),
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
    return args, changes + ([f"init.weights={args.init_from}"] if args.init_from is not None else [])


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


def facts(cfg: Any) -> dict[str, str]:
    """What must be the same on every host: versions, commit, every config key."""
    keys = {f"--config.{key}": repr(value) for key, value in config.flatten(cfg).items()}
    return {"python": platform.python_version(), **device.versions(), "commit": device.commit(), **keys}


def _timeouts(args: argparse.Namespace) -> dict[str, float]:
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


def _joined(cfg: Any, args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """The cluster to train in; nothing for a run on this machine alone."""
    where, timeouts = hosts(args), _timeouts(args)
    if where is None:
        return contextlib.nullcontext()
    mine = facts(cfg) | {f"--{k}": str(getattr(args, k)) for k in ("workdir", "resume", "device")}
    if where.number is None:
        return cluster.join_auto(mine, ready=lambda: device.choose(args.device), **timeouts)
    return cluster.join(where.number, where.host, where.coordinator, mine, **timeouts)


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


def run(train: Callable, cfg: Any, args: argparse.Namespace) -> Path | None:
    """Meets the other hosts, chooses the device, switches the compilation cache on and trains.

    Returns the run directory, on the one host that reports; None on the others.
    """
    processes.follow_parent()
    for name in ("absl", "asyncio"):  # pages of what Orbax and TensorStore raise, too, and we tell in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder, profile = workdir(cfg, args), _profile(args.profile)
    cpu.tune(args.device)  # both before JAX starts
    if cfg.deterministic:
        determinism.switch_on()
    with _joined(cfg, args):
        device.choose(args.device)
        device.use_compilation_cache()
        if jax.process_count() > 1:
            # On CPUs all have to begin their first collective within 30 s, and would compile for longer before a later one.
            multihost_utils.sync_global_devices("start")
        train(cfg, folder, resume=args.resume, profile=profile)
        reports = jax.process_index() == 0
    return folder if reports else None


def workdir(cfg: Any, args: argparse.Namespace) -> Path:
    return Path(args.workdir or Path(DEFAULT_ROOT) / cfg.name)


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
        if folder := run(train, config.load(name, changes), args):
            print(folder)
        return 0

    sys.exit(guarded(go))


def guarded(go: Callable[[], int]) -> int:
    """Runs `go`; the user's mistake is one line and status 2, a host that is not there one line and 75."""
    try:
        return go()
    except UserError as e:
        print(f"almanac: {e}", file=sys.stderr)
        return 2
    except cluster.Lost as e:
        print(f"almanac: {e}", file=sys.stderr)
        return rendezvous.RESUMABLE
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        print(f"almanac: no space left to write {e.filename or 'a file'}; free some and start again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("almanac: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
