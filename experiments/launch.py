"""From a command line to `train(cfg, workdir)`: the same for `almanac train` and `python -m experiments.<family>.train`."""

import argparse
import contextlib
import logging
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from experiments import options
from research.cluster import cpu, determinism, device, membership, processes
from research.cluster.exits import guarded
from research.core import config
from research.util.escape import visible


def facts(cfg: Any) -> dict[str, str]:
    """What must be the same on every host: versions, commit, every config key."""
    keys = {f"--config.{key}": repr(value) for key, value in config.flatten(cfg).items()}
    return {"python": platform.python_version(), **device.versions(), "commit": device.commit(), **keys}


def _joined(cfg: Any, args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """The cluster to train in; nothing for a run on this machine alone."""
    where, timeouts = options.hosts(args), options.timeouts(args)
    if where is None:
        return contextlib.nullcontext()
    mine = facts(cfg) | {f"--{k}": str(getattr(args, k)) for k in ("workdir", "resume", "device")}
    if where.number is None:
        return membership.join_auto(mine, ready=lambda: device.choose(args.device), **timeouts)
    return membership.join(where.number, where.host, where.coordinator, mine, **timeouts)


def run(train: Callable, cfg: Any, args: argparse.Namespace) -> Path | None:
    """Meets the other hosts, chooses the device, switches the compilation cache on and trains.

    Returns the run directory, on the one host that reports; None on the others.
    """
    processes.follow_parent()
    for name in ("absl", "asyncio"):  # pages of what Orbax and TensorStore raise, too, and we tell in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder, profile = options.workdir(cfg, args), options.profile(args.profile)
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


def main(train: Callable) -> None:
    """`if __name__ == "__main__": launch.main(train)` of a family's train.py."""
    family = sys.modules["__main__"].__spec__.name.split(".")[-2]  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=f"Trains a config of {family}.", allow_abbrev=False)
    parser.add_argument(
        "--config", required=True, metavar="NAME", help="a config of this family, or a run's config.json"
    )

    def go() -> int:
        args, changes = options.parse(sys.argv[1:], parser)
        name = args.config if args.config.endswith(".json") else f"{family}/{args.config}"
        if folder := run(train, config.load(name, changes), args):
            print(visible(folder))
        return 0

    sys.exit(guarded(go))
