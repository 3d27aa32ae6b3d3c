"""Files that are written whole or not at all, and what a full disk or a vanished folder is told as."""

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.util import run_files
from research.util.errors import UserError

_one_part = threading.Lock()  # two threads may write the same file


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all, in place of what has the name: a link there is replaced, and its target stays as it is."""
    part = path.with_name(path.name + ".part")
    with _one_part:
        try:
            part.unlink(missing_ok=True)  # left by a kill; or a link that would be followed
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name with nothing under it
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file in a run directory; raises UserError as `run_files` does, for a link that leads out as well."""
    return run_files.read_json(run_files.inside(path.parent, path.name))


@contextlib.contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as e:
        full = isinstance(e, OSError) and e.errno == errno.ENOSPC
        if full or "RESOURCE_EXHAUSTED" in str(e) or "No space left" in str(e):
            raise UserError(f"no space left to save under {folder}; free some and start again: it resumes") from e
        if isinstance(e, OSError):
            raise UserError(f"cannot write to {folder}: {e.strerror or e}") from e
        raise


def gone(folder: Any) -> UserError:
    return UserError(
        f"{folder}: removed or replaced while the run went on; put it back, or mount it again, and start again: it resumes"
    )
