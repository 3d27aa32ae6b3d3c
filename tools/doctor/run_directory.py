"""`almanac doctor DIR`: checks the files of a run directory, and reports the step at which it would resume. Read-only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.core import config, upgrade
from research.run import attempts, lock, object_store
from research.run import checkpoint_files as files
from research.run.checkpoint_files import Checkpoint
from research.util import run_files
from research.util.errors import UserError
from tools.doctor.rows import Row


def examine(workdir: str) -> Iterator[Row]:
    """All rows, in the order of printing. `workdir` is a local path or a URL."""
    folder = object_store.fetch(workdir, newest=False)
    yield _directory(folder, workdir)
    if not (folder / "config.json").is_file():
        return
    about, fault = _about(folder)
    yield (
        configuration(about) if about else Row("config", fault, "restore it from a copy; nothing can resume without it")
    )
    checkpoints = files.find(folder) if _has_checkpoints(folder) else []
    faults = {checkpoint: files.verify(checkpoint) for checkpoint in checkpoints if checkpoint.whole}
    intact = [checkpoint for checkpoint, lines in faults.items() if not lines and checkpoint.kind != "best"]
    for checkpoint, lines in faults.items():
        if checkpoint.path.exists():
            yield _checkpoint(checkpoint, lines, intact)
    yield from _unused(checkpoints)
    newest = max(intact, key=lambda checkpoint: checkpoint.step, default=None)
    cfg = upgrade.of_file(about) if about else {}
    done, total = newest.step if newest else 0, cfg.get("num_steps")
    finished = newest is not None and (done == total or _stopped(newest))
    if isinstance(total, int) and done > total:
        yield Row(
            "num_steps",
            f"{total:,}",
            f"{done:,} steps are done: restore config.json from a copy; nothing is left to do",
        )
    yield from _history(about)
    yield log(folder / "metrics.jsonl", done, finished, cfg.get("log_every"))
    yield log(folder / "timing.jsonl", done, finished)
    if (folder / "not_finite.json").exists():
        yield _not_finite(folder, done)
    yield Row("next start", f"the run is finished at step {done}" if finished else f"resumes at step {done} of {total}")


def _directory(folder: Path, workdir: str) -> Row:
    if not (folder / "config.json").is_file():
        return Row("run directory", workdir, "it has no config.json; give a run's folder, such as runs/FAMILY/NAME")
    holder = lock.holder(folder) if not object_store.is_remote(workdir) else None
    return Row("run directory", f"{workdir}, in use by {holder}" if holder else workdir)


def _has_checkpoints(folder: Path) -> bool:
    return any(path.is_dir() for name in ("checkpoints", "best") for path in (folder / name).glob("*"))


# config.json


def _about(folder: Path) -> tuple[dict[str, Any], str]:
    """-> (config.json's object, ""), or ({}, the fault of the file)."""
    try:
        return run_files.read_object(run_files.inside(folder, "config.json"), run_files.CONFIG), ""
    except UserError as e:
        return {}, str(e)


def configuration(about: dict[str, Any]) -> Row:
    """Whether the current code can read the run's config: the experiment exists and has the same keys.

    `about` is the object of config.json.
    """
    name, nested, commit = about.get("name"), upgrade.of_file(about), about.get("commit") or "-"
    saved = config.flatten(nested)
    value = f"{name}, {len(saved)} keys, by commit {commit}"
    try:
        config.from_module(str(name))
        current = config.flatten(config.defaults_of({**nested, "name": str(name)}))
    except UserError as e:
        return Row("config", value, f"{e}; use commit {commit}")
    removed = [key for key in saved if key not in current and key != "name" and not config.is_open(key)]
    added = [key for key in current if key not in saved and current[key] is not None]
    if not removed and not added:
        return Row("config", value)
    differences = [f"the current code has no {', '.join(removed)}"] * bool(removed)
    differences += [f"the current code also has {', '.join(added)}"] * bool(added)
    return Row("config", value, f"{'; '.join(differences)}: use commit {commit}, or train with --resume=force")


def _history(about: dict[str, Any]) -> Iterator[Row]:
    """The number of attempts, and a row for each that resumed with a changed config or changed code."""
    previous = about.get("attempts", [])
    if previous:
        yield Row("attempts", str(len(previous)))
    for attempt in previous:
        for key, label in (("changed", "config changed"), ("edited", "code edited")):
            if attempt.get(key):
                yield Row(f"at step {attempt['step']}", f"{label}: {attempts.few(attempt[key])}")


# Checkpoints


def _checkpoint(checkpoint: Checkpoint, faults: list[str], intact: list[Checkpoint]) -> Row:
    name, step = str(checkpoint), checkpoint.step
    if not faults:
        return Row(name, f"whole: {len(checkpoint.leaves):,} leaves, {checkpoint.bytes() / 1e6:,.1f} MB")
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    value = f"damaged: {'; '.join(faults[:3])}{more}"
    if checkpoint.kind == "best":
        return Row(name, value, "rename it: the last checkpoint is then used in its place")
    newest = max((other.step for other in intact), default=None)
    if newest is None:
        return Row(name, value, "none is whole: remove or rename the folder checkpoints; the next start begins at 0")
    if newest < step:
        return Row(name, value, f"the next start sets it aside and resumes at {newest}")
    return Row(name, value, f"rename it to {step}.damaged, so that it is never restored")


def _unused(checkpoints: list[Checkpoint]) -> Iterator[Row]:
    """Rows of the folders that are not restored: damaged ones that were set aside, and half-written ones."""
    for kind, label, note in (
        ("damaged", "set aside", "not used"),
        ("half-written", "half-written", "the next start removes them"),
    ):
        if names := [str(checkpoint) for checkpoint in checkpoints if checkpoint.kind == kind]:
            yield Row(label, f"{', '.join(names)}: {note}")


def _stopped(checkpoint: Checkpoint) -> bool:
    """Whether early stopping ended the run."""
    tracker = checkpoint.json("meta").get("tracker")
    return isinstance(tracker, dict) and bool(tracker.get("stopped"))


# Logs


def log(path: Path, done: int, finished: bool, log_every: int | None = None) -> Row:
    """Checks a log against the newest whole checkpoint, that of step `done`.

    `log_every` is the number of steps between two lines of split "train"; None: not checked. Lines after `done` are a fault only
    of a finished run, because a resumed run trims them.
    """
    if not path.exists():
        remedy = "it is missing: restore it from a copy, or the resumed run's log begins here" if done else ""
        return Row(path.name, "none", remedy)
    try:
        contents = run_files.read_log(run_files.inside(path.parent, path.name), run_files.LOGS[path.name])
    except UserError as e:
        return Row(path.name, str(e), "restore it from a copy")
    faults = _faults(contents.lines, log_every if isinstance(log_every, int) else 0, done)
    num_later = sum(line.row is not None and line.row["step"] > done for line in contents.lines)
    notes = [f"{len(contents.lines):,} lines"]
    if num_later or contents.cut:
        parts = [f"{num_later:,} of later steps than the newest whole checkpoint"] * bool(num_later)
        parts += ["one cut short"] * bool(contents.cut)
        notes.append(f"{' and '.join(parts)}{'' if finished else ': will be trimmed on resume'}")
        faults += ["the run is finished, and ends before these lines"] * finished
    remedy = f"{'; '.join(faults[:3])}: restore it from a copy, or see what wrote it" if faults else ""
    return Row(path.name, "; ".join(notes), remedy)


def _faults(lines: list[run_files.Line], log_every: int, done: int) -> list[str]:
    """Unreadable, repeated, unordered and missing lines."""
    faults, seen, last = [], set(), 0
    for line in lines:
        if line.row is None:
            faults.append(f"line {line.number}: {line.fault}")
            continue
        step, split = key = line.row["step"], line.row.get("split", "")
        if key in seen:
            faults.append(f"line {line.number} repeats step {step:,} {split}".rstrip())
        elif step < last:
            faults.append(f"line {line.number} has step {step:,} after {last:,}")
        seen.add(key)
        last = max(last, step)
    missing = (
        [step for step in range(log_every, done + 1, log_every) if (step, "train") not in seen] if log_every > 0 else []
    )
    return faults + ([f"there is no line of step {missing[0]:,} train"] if missing else [])


def _not_finite(folder: Path, done: int) -> Row:
    """The step recorded in not_finite.json, with a remedy unless the run has passed it since."""
    try:
        about = run_files.read_object(run_files.inside(folder, "not_finite.json"), run_files.NOT_FINITE)
    except UserError as e:
        return Row("not finite", str(e), "remove it")
    step, what = about["step"], about["what"]
    passed = done >= step
    remedy = (
        "" if passed else f"see `almanac replay {folder} --step {step}`; lower optim.peak_lr or set optim.clip_norm"
    )
    return Row("not finite", f"step {step:,}: {what}{'; since passed' if passed else ''}", remedy)
