"""Verifies checkpoints, copies them to a temporary folder, verifies the copy and renames it to DST, which must not exist.

With a run directory, its config, vocabulary and logs up to the newest step are copied as well, and `almanac train ... --workdir
DST` resumes there. A copy of `best` alone is for evaluate, sample and export: training would start at step 0.
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
RUN_FILES = (CONFIG, VOCABULARY)  # files that a run's checkpoints cannot be used without


def copy(source: str, to: str) -> str:
    """Copies one checkpoint, or all of them, from `source` (DIR[@WHICH]) to the new folder `to`. Returns a line for the terminal.

    Raises UserError if a checkpoint is damaged, `to` exists, or it cannot be written.
    """
    if object_store.is_remote(to):
        raise UserError(f"{to}: copy to a local folder")
    target = Path(to)
    folder, which = files.split(source)
    if which:
        checkpoints = _with_best(files.choose(source), folder)
    else:
        checkpoints = [checkpoint for checkpoint in files.find(folder) if checkpoint.whole]
    if not checkpoints:
        raise UserError(f"{folder} has no whole checkpoint to copy; see `almanac checkpoint list {folder}`")
    part = target.with_name(target.name + ".part")
    if target.exists():
        raise UserError(f"{target} exists; copy to another name")
    if part.exists():
        raise UserError(f"{part} exists: another copy is in progress, or was interrupted; then remove it")
    _require_whole(checkpoints)
    try:
        with write_errors(target):
            _copy_files(part, folder, checkpoints)
            _require_whole([Checkpoint(_copied_path(part, folder, each), each.kind) for each in checkpoints])
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return f"{target}: {', '.join(map(str, checkpoints))}"


def _with_best(checkpoint: Checkpoint, folder: Path) -> list[Checkpoint]:
    """A checkpoint and, if it is still kept, the best one that it refers to."""
    try:
        step = checkpoint.json("meta")["tracker"]["step"] if checkpoint.kind != "best" else None
    except (UserError, LookupError, TypeError):
        step = None
    return [checkpoint, *(best for best in files.find(folder) if best.kind == "best" and best.step == step)]


def _require_whole(checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        if lines := files.verify(checkpoint):
            raise UserError(f"{checkpoint.path} is damaged: {lines[0]}; copy another with @STEP")


def _copied_path(target: Path, folder: Path, checkpoint: Checkpoint) -> Path:
    return target / checkpoint.path.relative_to(folder).parent / str(checkpoint.step)


def _copy_files(part: Path, folder: Path, checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        path = _copied_path(part, folder, checkpoint)
        try:
            shutil.copytree(checkpoint.path, path, symlinks=True)  # never a link: `verify` reports links as damage
        except shutil.Error as e:
            raise UserError(f"cannot copy {checkpoint.path}: {e.args[0][0][2]}") from None
        if manifest.scan(path) != manifest.scan(checkpoint.path):
            raise UserError(f"{path} is not what {checkpoint.path} is; was that being written?")
    copy_run_files(folder, part)
    if (part / CONFIG).exists():
        steps = [checkpoint.step for checkpoint in checkpoints if checkpoint.kind != "best"]
        last = max(steps or [checkpoint.step for checkpoint in checkpoints])
        for name in run_files.LOGS:
            if (log := run_files.inside(folder, name)).exists():
                _copy_log(log, part, last)


def copy_run_files(folder: Path, part: Path) -> None:
    """Copies config.json and the vocabulary of a run, if there are any, to the folder `part`."""
    for name in RUN_FILES:
        if (file := run_files.inside(folder, name)).exists():
            write_bytes(part / name, run_files.read_bytes(file))


def _copy_log(log: Path, part: Path, step: int) -> None:
    """Copies the lines up to a step, and unreadable lines to a file of their own, as a resumed run does."""
    lines, unreadable, _ = lines_until(log, step)
    write_bytes(part / log.name, lines)
    if unreadable:
        write_bytes(part / f"{log.name}.unreadable", unreadable)
