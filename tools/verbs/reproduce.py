"""`almanac reproduce NAME`: trains every seed of an experiment and compares the result with the published number."""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research.core import upgrade
from research.run import run_logs
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.escape import visible
from research.util.files import write_bytes, write_json
from tools.results import ledger
from tools.root import ROOT

Train = Callable[[str, list[str], Path], Any]


def reproduce(
    name: str,
    seeds: int | None = None,
    workdir: Path | None = None,
    train: Train | None = None,
    root: Path = ROOT,
    steps_per_launch: int | None = None,
) -> list[str]:
    """Trains seeds 0, 1, ... of `name`, copies their logs to the committed results and rewrites the tables.

    name                experiment, FAMILY/NAME
    seeds               the number of seeds; default: the number that the config states
    workdir             the folder of the run directories; default: runs/reproduce/NAME
    train               `train(name, overrides, run directory)` returns when the run is finished, and raises if it was
                        preempted; default: `almanac train`
    root                the project's folder, with the tables and results
    steps_per_launch    overrides the config's value, which changes the speed but not the result; recorded in run.json

    A seed that finished in `workdir` is not trained again; an unfinished one resumes. Returns a line with the verdict on each
    published number. Raises UserError if there is no such experiment, it states no published number, a table has no markers,
    or `workdir` has a run of another config.
    """
    if train is None:
        from tools.verbs import train as train_verb

        train = train_verb.run
    configs = ledger.configs()
    if name not in configs:
        raise UserError(f"no experiment {name!r}{nearest(name, configs)}")
    targets = ledger.targets(name, configs[name])
    if not targets:
        raise UserError(f"{name} states no published number (cfg.reproduces); train it with: almanac train {name}")
    family = name.partition("/")[0]
    for block in ledger.blocks(root, configs):
        if block.family in (None, family):
            ledger.split(block.path)  # raises before training if a marker is missing

    seeds = seeds or max(target["seeds"] for target in targets)
    workdir = workdir or Path("runs") / "reproduce" / name
    runs = [workdir / f"seed_{seed}" for seed in range(seeds)]
    changes = [f"steps_per_launch={steps_per_launch}"] if steps_per_launch else []
    for seed, path in enumerate(runs):
        record = _record(path, ledger.same_experiment(configs[name]))
        if "machine" not in record or not path.exists():
            print(f"{name}: seed {seed} of 0..{seeds - 1} in {visible(path)}", flush=True)
            train(name, [f"seed={seed}", *changes], path)
            write_json(_record_path(path), record | {"machine": machine()})
    copy_logs(ledger.results(root, name), runs)
    ledger.refresh(root, configs, {None, family})
    return [_verdict(root, name, target) for target in targets]


def _record(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The record beside a run directory: its config and, once finished, its machine. Raises UserError if the config differs."""
    record_path = _record_path(path)
    if not record_path.exists():
        if path.exists() and any(path.iterdir()):
            raise UserError(
                f"{path} holds a run that almanac reproduce did not start; move it away or name another --workdir"
            )
        record_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(record_path, {"config": config, "config_version": upgrade.VERSION})
    record = run_logs.read_json(record_path, run_logs.BEGUN)
    for key, (now, then) in run_logs.differences([config, upgrade.of_file(record)]).items():
        raise UserError(
            f"{path} began with {key} = {then!r}, the config now says {now!r}; "
            f"remove {path.name} and {path.name}.json or name another --workdir"
        )
    return record


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def machine() -> dict[str, Any]:
    """The machine that a time was measured on: {"cpu": model, "cores": the number that this process may use}."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": count}


def copy_logs(folder: Path, runs: list[Path]) -> None:
    """Copies the logs of these runs (seeds 0, 1, ...) to `folder`, removes other logs there, and writes run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in ledger.seed_logs(folder):
        old.unlink()
    seeds = []
    for seed, path in enumerate(runs):
        log = folder / f"seed_{seed}.jsonl"
        write_bytes(log, run_files.read_bytes(run_files.inside(path, "metrics.jsonl")))
        run = run_logs.read(path)
        launch = run.config.get("steps_per_launch")
        seeds.append(
            ({"steps_per_launch": launch} if launch else {})
            | {
                "commit": run.commit,
                "sha256": ledger.sha256(log),
                "seconds": None if run.seconds is None else round(run.seconds, 1),
            }
        )
    last, record = run_logs.read(runs[-1]), run_logs.read_json(_record_path(runs[-1]), run_logs.BEGUN)
    write_json(
        folder / "run.json",
        {
            "name": last.name,
            "config": upgrade.of_file(record),
            "config_version": upgrade.VERSION,
            "parameters": last.parameters,
            "versions": last.versions,
            "commit": last.commit,
            "machine": record["machine"] | {"devices": last.devices},
            "seeds": seeds,
        },
    )


def _verdict(root: Path, name: str, target: dict[str, Any]) -> str:
    values = ledger.measured(root, name, target)
    ours = ledger.summary(values, ledger.decimals(target))
    text = f"{ledger.verdict(target, values)}: {target['metric']} {ours}; "
    if "value" not in target:
        return text + f"nothing published ({target['paper']})"
    return (
        text + f"published {target['value']:g} ({target['paper']}), tolerance {target['low']:g} to {target['high']:g}"
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac reproduce",
        description=(
            "Trains every seed of an experiment, copies the logs to experiments/*/results and rewrites the tables. "
            "If interrupted, the same command resumes. The exit status is 1 if a number is missed."
        ),
    )
    parser.add_argument("name", metavar="FAMILY/NAME", help="see almanac list")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train 0..N-1; default: the number that the config states"
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="the folder of the run directories; default: runs/reproduce/FAMILY/NAME",
    )
    parser.add_argument(
        "--steps-per-launch",
        type=int,
        metavar="N",
        help="for small models on a GPU: changes the speed, not the result",
    )
    args = parser.parse_args(argv)
    for option in ("seeds", "steps_per_launch"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} {value}: give 1 or more")
    lines = reproduce(args.name, args.seeds, args.workdir, steps_per_launch=args.steps_per_launch)
    print("\n".join(map(visible, lines)))
    return 1 if any(text.startswith("MISSED") for text in lines) else 0
