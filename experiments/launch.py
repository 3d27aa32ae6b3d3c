"""Starts `train(cfg, workdir)` from a command line, for `almanac train` and for `python -m experiments.<family>.train`."""

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


def host_fingerprint(cfg: Any) -> dict[str, str]:
    """{name: value} of what must be equal on all hosts: versions, commit and every config key."""
    keys = {f"--config.{key}": repr(value) for key, value in config.flatten(cfg).items()}
    return {"python": platform.python_version(), **device.versions(), "commit": device.commit(), **keys}


def _join_cluster(cfg: Any, args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """A context in which this process is a member of the cluster; a null context for a run on this machine alone."""
    cluster, timeouts = options.hosts(args), options.timeouts(args)
    if cluster is None:
        return contextlib.nullcontext()
    fingerprint = host_fingerprint(cfg) | {f"--{k}": str(getattr(args, k)) for k in ("workdir", "resume", "device")}
    if cluster.number is None:
        return membership.join_auto(fingerprint, ready=lambda: device.choose(args.device), **timeouts)
    return membership.join(cluster.number, cluster.host, cluster.coordinator, fingerprint, **timeouts)


def run(train: Callable, cfg: Any, args: argparse.Namespace) -> Path | None:
    """Joins the other hosts, chooses the device, switches on the compilation cache and trains.

    Returns the run directory on host 0, None on the others. Raises UserError for invalid options.
    """
    processes.follow_parent()
    for name in ("absl", "asyncio"):  # they log pages for errors of Orbax and TensorStore that we report in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder, profile = options.workdir(cfg, args), options.profile(args.profile)
    cpu.tune(args.device)  # both before JAX starts
    if cfg.deterministic:
        determinism.switch_on()
    with _join_cluster(cfg, args):
        device.choose(args.device)
        device.use_compilation_cache()
        if jax.process_count() > 1:
            # On CPUs all hosts must enter their first collective within 30 s; before a later one, compilation could take longer.
            multihost_utils.sync_global_devices("start")
        train(cfg, folder, resume=args.resume, profile=profile)
        reports = jax.process_index() == 0
    return folder if reports else None


def main(train: Callable) -> None:
    """The command line of a family: a train.py ends with `if __name__ == "__main__": launch.main(train)`."""
    family = sys.modules["__main__"].__spec__.name.split(".")[-2]  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=f"Trains a config of {family}.", allow_abbrev=False)
    parser.add_argument(
        "--config", required=True, metavar="NAME", help="a config of this family, or a run's config.json"
    )

    def start() -> int:
        args, changes = options.parse(sys.argv[1:], parser)
        name = args.config if args.config.endswith(".json") else f"{family}/{args.config}"
        if folder := run(train, config.load(name, changes), args):
            print(visible(folder))
        return 0

    sys.exit(guarded(start))
