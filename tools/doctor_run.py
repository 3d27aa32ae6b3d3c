"""`almanac doctor DIR`: whether a run directory is whole, and from which step a start would go on. Trains nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.core import config
from research.host import attempts, lock, storage
from research.host.errors import UserError
from research.interop import checkpoint_files as files
from research.interop.checkpoint_files import Checkpoint
from tools.doctor import Row


def examine(workdir: str) -> Iterator[Row]:
    """Every finding, in the order of printing."""
    folder = storage.fetch(workdir, newest=False)
    yield _directory(folder, workdir)
    if not (folder / "config.json").is_file():
        return
    about = _about(folder / "config.json")
    yield configuration(about)
    found = files.find(folder) if _holds(folder) else []
    faults = {one: files.verify(one) for one in found if one.whole}
    sound = [one for one, lines in faults.items() if not lines and one.kind != "best"]
    yield from (_checkpoint(one, lines, sound) for one, lines in faults.items() if one.path.exists())
    yield from _beside(found)
    newest = max(sound, key=lambda one: one.step, default=None)
    run = about.get("config") if isinstance(about.get("config"), dict) else {}
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
    held = lock.holder(folder) if not storage.is_remote(workdir) else None
    return Row("run directory", f"{workdir}, in use by {held}" if held else workdir)


def _holds(folder: Path) -> bool:
    return any(path.is_dir() for place in ("checkpoints", "best") for path in (folder / place).glob("*"))


# config.json


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return {}


def configuration(about: dict[str, Any]) -> Row:
    """Whether today's code knows the run's config: the same keys, of an experiment that is still there."""
    if not isinstance(about.get("config"), dict):
        return Row("config", "config.json is no run's config", "restore it from a copy; without it nothing can go on")
    name, was, commit = about.get("name"), config.flatten(about["config"]), about.get("commit", "-")
    value = f"{name}, {len(was)} keys, by commit {commit}"
    try:
        known = config.flatten(config.load(str(name)))
    except UserError as e:
        return Row("config", value, f"{e}; use commit {commit}")
    gone = [key for key in was if key not in known]
    new = [key for key in known if key not in was and known[key] is not None]
    if not gone and not new:
        return Row("config", value)
    words = [f"today's code has no {', '.join(gone)}"] * bool(gone) + [f"it has {', '.join(new)} besides"] * bool(new)
    return Row("config", value, f"{'; '.join(words)}: use commit {commit}, or train with --resume=force")


def _history(about: dict[str, Any]) -> Iterator[Row]:
    """The attempts of a run, and those that resumed it with another config or other code."""
    listed = about.get("attempts")
    past = [attempt for attempt in listed if isinstance(attempt, dict)] if isinstance(listed, list) else []
    if past:
        yield Row("attempts", str(len(past)))
    for attempt in past:
        for key, what in (("changed", "config changed"), ("edited", "code edited")):
            if isinstance(attempt.get(key), list) and attempt[key]:
                yield Row(f"at step {attempt.get('step')}", f"{what}: {attempts.few(list(map(str, attempt[key])))}")


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
    return one.json("meta").get("tracker", {}).get("stopped", False)


# Logs


def log(path: Path, done: int, over: bool, every: int | None = None) -> Row:
    """A log of a run whose newest whole checkpoint is of step `done`. `every`: the steps between two lines of "train"."""
    if not path.exists():
        remedy = "it is gone: restore it from a copy; a start goes on without the lines before" if done else ""
        return Row(path.name, "none", remedy)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    cut = bool(lines) and not lines[-1].endswith("\n")
    rows = [_parse(line) for line in lines[: len(lines) - cut]]
    faults = _faults(rows, every if isinstance(every, int) else 0, done)
    later = sum(row is not None and row[0] > done for row in rows)
    notes = [f"{len(rows):,} lines"]
    if later or cut:
        words = [f"{later:,} of later steps than the newest whole checkpoint"] * bool(later) + ["one cut short"] * cut
        notes.append(f"{' and '.join(words)}{'' if over else ': will be trimmed on resume'}")
        faults += ["the run is finished, and ends before these lines"] * over
    remedy = f"{'; '.join(faults[:3])}: restore it from a copy, or see what wrote it" if faults else ""
    return Row(path.name, "; ".join(notes), remedy)


def _parse(line: str) -> tuple[int, str] | None:
    """(step, split) of a line; None if it is none."""
    try:
        row = json.loads(line)
        whole = isinstance(row["step"], int) and ("split" not in row or isinstance(row["values"], dict))
        return (row["step"], row.get("split", "")) if whole else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _faults(rows: list[tuple[int, str] | None], every: int, done: int) -> list[str]:
    found, seen, last = [], set(), 0
    for number, row in enumerate(rows, 1):
        if row is None:
            found.append(f"line {number} is not whole")
            continue
        if row in seen:
            found.append(f"line {number} repeats step {row[0]:,} {row[1]}".rstrip())
        elif row[0] < last:
            found.append(f"line {number} has step {row[0]:,} after {last:,}")
        seen.add(row)
        last = max(last, row[0])
    absent = [step for step in range(every, done + 1, every) if (step, "train") not in seen] if every else []
    return found + ([f"there is no line of step {absent[0]:,} train"] if absent else [])


def _not_finite(folder: Path, done: int) -> Row:
    try:
        about = json.loads((folder / "not_finite.json").read_text(encoding="utf-8"))
        step, what = about["step"], about["what"]
    except (OSError, ValueError, LookupError, TypeError) as e:
        return Row("not finite", f"not_finite.json: {files.first_line(e)}", "remove it")
    past = done >= step
    remedy = "" if past else f"see `almanac replay {folder} --step {step}`; lower optim.peak_lr or set optim.clip_norm"
    return Row("not finite", f"step {step:,}: {what}{'; since passed' if past else ''}", remedy)
