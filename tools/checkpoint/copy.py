"""Verifies checkpoints, copies them to DST under a part name, verifies the copy and renames it. DST must not exist.

Of a run directory the config, the vocabulary and the logs up to the newest step come along: `almanac train ... --workdir DST`
goes on from there. One of `best` is for evaluate, sample and export: training would begin at 0 there.
"""

import shutil
from pathlib import Path

from research.run import checkpoint_files as files
from research.run import manifest, object_store
from research.run.checkpoint_files import VOCABULARY, Checkpoint
from research.run.metric_log import lines_until
from research.util import run_files
from research.util.errors import UserError
from research.util.files import write_bytes, write_errors

CONFIG = "config.json"
ABOUT = (CONFIG, VOCABULARY)  # what a run's checkpoints mean nothing without


def copy(source: str, to: str) -> str:
    """Returns a line that tells what was copied. UserError where something is damaged, in the way, or cannot be written."""
    if object_store.is_remote(to):
        raise UserError(f"{to}: copy to a local folder")
    target = Path(to)
    folder, which = files.split(source)
    found = _with_best(files.choose(source), folder) if which else [one for one in files.find(folder) if one.whole]
    if not found:
        raise UserError(f"{folder} has no whole checkpoint to copy; see `almanac checkpoint list {folder}`")
    part = target.with_name(target.name + ".part")
    if target.exists():
        raise UserError(f"{target} exists; copy to another name")
    if part.exists():
        raise UserError(f"{part} exists: another copy is under way, or was cut short; then remove it")
    _demand_whole(found)
    try:
        with write_errors(target):
            _fill(part, folder, found)
            _demand_whole([Checkpoint(_place(part, folder, one), one.kind) for one in found])
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return f"{target}: {', '.join(map(str, found))}"


def _with_best(one: Checkpoint, folder: Path) -> list[Checkpoint]:
    """A checkpoint of a run, and the best one that it refers to, where that is still kept."""
    try:
        step = one.json("meta")["tracker"]["step"] if one.kind != "best" else None
    except (UserError, LookupError, TypeError):
        step = None
    return [one, *(best for best in files.find(folder) if best.kind == "best" and best.step == step)]


def _demand_whole(found: list[Checkpoint]) -> None:
    for one in found:
        if lines := files.verify(one):
            raise UserError(f"{one.path} is damaged: {lines[0]}; copy another with @STEP")


def _place(target: Path, folder: Path, one: Checkpoint) -> Path:
    return target / one.path.relative_to(folder).parent / str(one.step)


def _fill(part: Path, folder: Path, found: list[Checkpoint]) -> None:
    for one in found:
        place = _place(part, folder, one)
        try:
            shutil.copytree(one.path, place, symlinks=True)  # there is none: `verify` names links as damage
        except shutil.Error as e:
            raise UserError(f"cannot copy {one.path}: {e.args[0][0][2]}") from None
        if manifest.scan(place) != manifest.scan(one.path):
            raise UserError(f"{place} is not what {one.path} is; was that being written?")
    copy_about(folder, part)
    if (part / CONFIG).exists():
        last = max([one.step for one in found if one.kind != "best"] or [one.step for one in found])
        for name in run_files.LOGS:
            if (log := run_files.inside(folder, name)).exists():
                _copy_log(log, part, last)


def copy_about(folder: Path, part: Path) -> None:
    for name in ABOUT:
        if (file := run_files.inside(folder, name)).exists():
            write_bytes(part / name, run_files.read_bytes(file))


def _copy_log(log: Path, part: Path, step: int) -> None:
    """The lines up to a step; those that cannot be read beside them, as a resumed run keeps them."""
    kept, unreadable, _ = lines_until(log, step)
    write_bytes(part / log.name, kept)
    if unreadable:
        write_bytes(part / f"{log.name}.unreadable", unreadable)
