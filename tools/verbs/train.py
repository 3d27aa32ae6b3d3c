"""`almanac train [NAME] [--workdir DIR] [--config.KEY=VALUE ...]`, on one host or several, supervised or not."""

import argparse
import importlib
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import options
from research.cluster import processes
from research.core import config
from research.run import object_store
from research.util import run_files
from research.util.errors import UserError
from research.util.escape import TEXT, visible

MAIN_JOB = "language_model/pydoc_char"


def trainer(name: str) -> Callable:
    """The `train` function of the family of FAMILY/NAME."""
    return importlib.import_module(f"{config.EXPERIMENTS}.{config.family(name)}.train").train


def run(name: str, overrides: Sequence[str], workdir: Path) -> None:
    """Trains in `workdir` until the run is finished; resumes if it was started before."""
    trainer(name)(config.load(name, overrides), workdir)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac train", allow_abbrev=False, epilog="config keys: almanac show NAME",
        description="Trains an experiment; resumes if its run directory exists.",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default=MAIN_JOB, metavar="NAME", help=f"FAMILY/NAME (default: {MAIN_JOB})")
    parser.add_argument("--local-hosts", metavar="N", help="start N processes on this machine's CPU, each as a host")
    parser.add_argument("--restarts", metavar="N", help="restart at most N times if preempted or killed")
    args, overrides = options.parse(argv, parser)
    cfg = config.load(args.name, overrides)
    options.hosts(args)
    if args.restarts is not None:
        restarts, folder = options.parse_int("--restarts", args.restarts, 0), options.workdir(cfg, args)
        return processes.supervise(_command(argv, "--restarts"), restarts, lambda: progress(folder))
    if args.local_hosts is not None:
        return processes.together(_local_hosts(argv, args))
    from experiments import launch  # imports JAX, which the code above does not need

    if folder := launch.run(trainer(cfg.name), cfg, args):
        _report(folder)
        _next_steps(folder, cfg.name)
    return 0


def _local_folder(folder: Path) -> Path:
    """The local folder with a run's files: the run directory or, for an object store, the run's copy on this machine."""
    return object_store.local(folder) if object_store.is_remote(folder) else folder


def _command(argv: Sequence[str], without: str) -> list[str]:
    """The command of this process, with the same Python, without option `without` and its value."""
    words = list(argv)
    while at := [i for i, word in enumerate(words) if word.split("=")[0] == without]:
        del words[at[0] : at[0] + (1 if "=" in words[at[0]] else 2)]
    safe = ["-P"] if sys.flags.safe_path else []
    return [sys.executable, *safe, "-m", "tools.cli", "train", *words]


def _local_hosts(argv: Sequence[str], args: argparse.Namespace) -> list[list[str]]:
    """The commands of `--local-hosts`, one per process. Only on the CPU, because processes cannot share an accelerator."""
    number = options.parse_int("--local-hosts", args.local_hosts, 1)
    if args.hosts is not None:
        raise UserError(f"--local-hosts={number} starts all the hosts here; remove --hosts")
    if args.device not in (None, "cpu"):
        raise UserError(f"--local-hosts={number} is for the CPU; remove --device={args.device}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [*_command(argv, "--local-hosts"), f"--hosts={number}", f"--coordinator={address}"]
    return [[*command, "--device=cpu", f"--host-id={host}"] for host in range(number)]


def progress(folder: Path) -> str:
    """The steps of a run's newest checkpoint and last log line, as text: `checkpoint 30, log 38`."""
    folder = _local_folder(folder)
    steps = [int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit()]
    return f"checkpoint {max(steps, default=0)}, log {_last_step(folder / 'metrics.jsonl')}"


def _last_step(path: Path) -> int:
    """The step of the last whole line of a log; a kill may have cut the last line short."""
    if not path.exists():
        return 0
    lines = run_files.read_log(run_files.inside(path.parent, path.name), run_files.METRICS).lines
    return next((line.row["step"] for line in reversed(lines) if line.row is not None), 0)


def _report(folder: Path) -> None:
    """Writes the run's report and curves, and prints their paths."""
    from tools.verbs import report

    local = _local_folder(folder)
    page, curves = report.write([local], local), local / "curves.png"
    object_store.publish(folder, page, curves)
    print(f"\n{visible(page)}\n{visible(curves)}")


def _next_steps(folder: Path, name: str) -> None:
    """Prints the newest sample and the commands to continue with."""
    local = _local_folder(folder)
    if samples := sorted((local / "samples").glob("*.txt")):
        newest = run_files.inside(local, f"samples/{samples[-1].name}")
        text = run_files.read_bytes(newest).decode("utf-8", errors="replace").strip()
        print(f"\n{visible(newest)}\n{visible(text, keep=TEXT)}")
    verb = "sample" if any((local / "samples").glob("*_sample*")) else "evaluate"
    config_name = name if name in config.names() else f"{folder}/config.json"
    almanac = "./almanac" if Path("almanac").is_file() else "almanac"
    print(f"\nNext:\n  {almanac} {verb} {visible(folder)}\n  {almanac} show {visible(config_name)}\n  {almanac} list")
