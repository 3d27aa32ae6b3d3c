"""almanac reproduce: train every seed of an experiment, set its number beside the published one."""

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
    """Train seeds 0, 1, ... of `name`, keep their logs, refresh the tables.

    `train(name, overrides, run directory)` returns when the run is finished; a preempted one must
    leave by an exception. A seed that finished in `workdir` is not trained again; one that did not
    is handed to `train` again, which continues it. Returns the verdict on each published number.
    `steps_per_launch` overrides the config's: it changes the speed, not what is computed. run.json names it by seed.
    """
    if train is None:
        from tools.verbs import train as verb

        train = verb.run
    known = ledger.configs()
    if name not in known:
        raise UserError(f"no experiment {name!r}{nearest(name, known)}")
    targets = ledger.targets(name, known[name])
    if not targets:
        raise UserError(f"{name} states no published number (cfg.reproduces); train it with: almanac train {name}")
    family = name.partition("/")[0]
    for block in ledger.blocks(root, known):
        if block.family in (None, family):
            ledger.split(block.path)  # a missing marker should not cost a training

    seeds = seeds or max(target["seeds"] for target in targets)
    workdir = workdir or Path("runs") / "reproduce" / name
    runs = [workdir / f"seed_{seed}" for seed in range(seeds)]
    changes = [f"steps_per_launch={steps_per_launch}"] if steps_per_launch else []
    for seed, path in enumerate(runs):
        record = _record(path, ledger.same_experiment(known[name]))
        if "machine" not in record or not path.exists():
            print(f"{name}: seed {seed} of 0..{seeds - 1} in {visible(path)}", flush=True)
            train(name, [f"seed={seed}", *changes], path)
            write_json(_beside(path), record | {"machine": machine()})
    keep(ledger.results(root, name), runs)
    ledger.refresh(root, known, {None, family})
    return [_say(root, name, target) for target in targets]


def _record(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """{config, and once finished machine} of a run; one that another config left is an error."""
    record = _beside(path)
    if not record.exists():
        if path.exists() and any(path.iterdir()):
            raise UserError(
                f"{path} holds a run that almanac reproduce did not start; move it away or name another --workdir"
            )
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, {"config": config, "config_version": upgrade.VERSION})
    was = run_logs.read_json(record, run_logs.BEGUN)
    for key, (now, then) in run_logs.differences([config, upgrade.of_file(was)]).items():
        raise UserError(
            f"{path} began with {key} = {then!r}, the config now says {now!r}; "
            f"remove {path.name} and {path.name}.json or name another --workdir"
        )
    return was


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def machine() -> dict[str, Any]:
    """What a time was measured on: {cpu: model, cores: those this process may use}."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": count}


def keep(folder: Path, runs: list[Path]) -> None:
    """Make `folder` hold the logs of these runs, seed by seed, and no others."""
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
    last, record = run_logs.read(runs[-1]), run_logs.read_json(_beside(runs[-1]), run_logs.BEGUN)
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


def _say(root: Path, name: str, target: dict[str, Any]) -> str:
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
            "Train every seed of an experiment, keep the logs under experiments/*/results and "
            "refresh the tables. Interrupted, the same command continues. Exits 1 where a number "
            "is missed."
        ),
    )
    parser.add_argument("name", metavar="FAMILY/NAME", help="almanac list names them")
    parser.add_argument("--seeds", type=int, metavar="N", help="train 0..N-1; default: as stated")
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="where the run directories go; default: runs/reproduce/FAMILY/NAME",
    )
    parser.add_argument(
        "--steps-per-launch",
        type=int,
        metavar="N",
        help="for small models on a GPU: the speed changes, what is computed does not",
    )
    args = parser.parse_args(argv)
    for option in ("seeds", "steps_per_launch"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} {value}: give 1 or more")
    said = reproduce(args.name, args.seeds, args.workdir, steps_per_launch=args.steps_per_launch)
    print("\n".join(map(visible, said)))
    return 1 if any(text.startswith("MISSED") for text in said) else 0
