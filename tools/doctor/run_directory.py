"""`almanac doctor DIR`: whether a run directory is whole, and from which step a start would go on. Trains nothing."""

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
    """Every finding, in the order of printing."""
    folder = object_store.fetch(workdir, newest=False)
    yield _directory(folder, workdir)
    if not (folder / "config.json").is_file():
        return
    about, fault = _about(folder)
    yield (
        configuration(about) if about else Row("config", fault, "restore it from a copy; nothing can resume without it")
    )
    found = files.find(folder) if _holds(folder) else []
    faults = {one: files.verify(one) for one in found if one.whole}
    sound = [one for one, lines in faults.items() if not lines and one.kind != "best"]
    yield from (_checkpoint(one, lines, sound) for one, lines in faults.items() if one.path.exists())
    yield from _beside(found)
    newest = max(sound, key=lambda one: one.step, default=None)
    run = upgrade.of_file(about) if about else {}
    done, total = newest.step if newest else 0, run.get("num_steps")
    over = newest is not None and (done == total or _stopped(newest))
    if isinstance(total, int) and done > total:
        yield Row(
            "num_steps",
            f"{total:,}",
            f"{done:,} steps are done: restore config.json from a copy; nothing is left to do",
        )
    yield from _history(about)
    yield log(folder / "metrics.jsonl", done, over, run.get("log_every"))
    yield log(folder / "timing.jsonl", done, over)
    if (folder / "not_finite.json").exists():
        yield _not_finite(folder, done)
    yield Row("a start", f"finds it finished at step {done}" if over else f"goes on from step {done} of {total}")


def _directory(folder: Path, workdir: str) -> Row:
    if not (folder / "config.json").is_file():
        return Row("run directory", workdir, "it has no config.json; give a run's folder, such as runs/FAMILY/NAME")
    held = lock.holder(folder) if not object_store.is_remote(workdir) else None
    return Row("run directory", f"{workdir}, in use by {held}" if held else workdir)


def _holds(folder: Path) -> bool:
    return any(path.is_dir() for place in ("checkpoints", "best") for path in (folder / place).glob("*"))


# config.json


def _about(folder: Path) -> tuple[dict[str, Any], str]:
    """(config.json's object, ""), or ({}, what is wrong with the file)."""
    try:
        return run_files.read_object(run_files.inside(folder, "config.json"), run_files.CONFIG), ""
    except UserError as e:
        return {}, str(e)


def configuration(about: dict[str, Any]) -> Row:
    """Whether today's code knows the run's config: the same keys, of an experiment that is still there."""
    name, nested, commit = about.get("name"), upgrade.of_file(about), about.get("commit") or "-"
    was = config.flatten(nested)
    value = f"{name}, {len(was)} keys, by commit {commit}"
    try:
        config.from_module(str(name))
        known = config.flatten(config.defaults_of({**nested, "name": str(name)}))
    except UserError as e:
        return Row("config", value, f"{e}; use commit {commit}")
    gone = [key for key in was if key not in known and key != "name" and not config.is_open(key)]
    new = [key for key in known if key not in was and known[key] is not None]
    if not gone and not new:
        return Row("config", value)
    words = [f"today's code has no {', '.join(gone)}"] * bool(gone) + [f"it has {', '.join(new)} besides"] * bool(new)
    return Row("config", value, f"{'; '.join(words)}: use commit {commit}, or train with --resume=force")


def _history(about: dict[str, Any]) -> Iterator[Row]:
    """The attempts of a run, and those that resumed it with another config or other code."""
    past = about.get("attempts", [])
    if past:
        yield Row("attempts", str(len(past)))
    for attempt in past:
        for key, what in (("changed", "config changed"), ("edited", "code edited")):
            if attempt.get(key):
                yield Row(f"at step {attempt['step']}", f"{what}: {attempts.few(attempt[key])}")


# Checkpoints


def _checkpoint(one: Checkpoint, lines: list[str], sound: list[Checkpoint]) -> Row:
    if not lines:
        return Row(str(one), f"whole: {len(one.leaves):,} leaves, {one.bytes() / 1e6:,.1f} MB")
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    value = f"damaged: {'; '.join(lines[:3])}{more}"
    if one.kind == "best":
        return Row(str(one), value, "rename it, and the last checkpoint is used in its place")
    newest = max((other.step for other in sound), default=None)
    if newest is None:
        return Row(str(one), value, "none is whole: remove or rename the folder checkpoints, and a start begins at 0")
    if newest < one.step:
        return Row(str(one), value, f"a start that reads it so sets it aside and goes on from {newest}")
    return Row(str(one), value, f"rename it to {one.step}.damaged, so that nothing falls back on it")


def _beside(found: list[Checkpoint]) -> Iterator[Row]:
    for kind, name, what in (
        ("damaged", "set aside", "nothing uses them"),
        ("half-written", "half-written", "a start removes them"),
    ):
        if names := [str(one) for one in found if one.kind == kind]:
            yield Row(name, f"{', '.join(names)}: {what}")


def _stopped(one: Checkpoint) -> bool:
    """Whether early stopping ended the run."""
    tracker = one.json("meta").get("tracker")
    return isinstance(tracker, dict) and bool(tracker.get("stopped"))


# Logs


def log(path: Path, done: int, over: bool, every: int | None = None) -> Row:
    """A log of a run whose newest whole checkpoint is of step `done`. `every`: the steps between two lines of "train"."""
    if not path.exists():
        remedy = "it is gone: restore it from a copy; a start goes on without the lines before" if done else ""
        return Row(path.name, "none", remedy)
    try:
        read = run_files.read_log(run_files.inside(path.parent, path.name), run_files.LOGS[path.name])
    except UserError as e:
        return Row(path.name, str(e), "restore it from a copy")
    faults = _faults(read.lines, every if isinstance(every, int) else 0, done)
    later = sum(line.row is not None and line.row["step"] > done for line in read.lines)
    notes = [f"{len(read.lines):,} lines"]
    if later or read.cut:
        words = [f"{later:,} of later steps than the newest whole checkpoint"] * bool(later)
        words += ["one cut short"] * bool(read.cut)
        notes.append(f"{' and '.join(words)}{'' if over else ': will be trimmed on resume'}")
        faults += ["the run is finished, and ends before these lines"] * over
    remedy = f"{'; '.join(faults[:3])}: restore it from a copy, or see what wrote it" if faults else ""
    return Row(path.name, "; ".join(notes), remedy)


def _faults(lines: list[run_files.Line], every: int, done: int) -> list[str]:
    found, seen, last = [], set(), 0
    for line in lines:
        if line.row is None:
            found.append(f"line {line.number}: {line.fault}")
            continue
        step, split = row = line.row["step"], line.row.get("split", "")
        if row in seen:
            found.append(f"line {line.number} repeats step {step:,} {split}".rstrip())
        elif step < last:
            found.append(f"line {line.number} has step {step:,} after {last:,}")
        seen.add(row)
        last = max(last, step)
    absent = [step for step in range(every, done + 1, every) if (step, "train") not in seen] if every > 0 else []
    return found + ([f"there is no line of step {absent[0]:,} train"] if absent else [])


def _not_finite(folder: Path, done: int) -> Row:
    try:
        about = run_files.read_object(run_files.inside(folder, "not_finite.json"), run_files.NOT_FINITE)
    except UserError as e:
        return Row("not finite", str(e), "remove it")
    step, what = about["step"], about["what"]
    past = done >= step
    remedy = "" if past else f"see `almanac replay {folder} --step {step}`; lower optim.peak_lr or set optim.clip_norm"
    return Row("not finite", f"step {step:,}: {what}{'; since passed' if past else ''}", remedy)
