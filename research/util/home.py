"""The user's own folder, and what stands in for it where there is none: a container's user may have no name and no HOME."""

import os
import tempfile
from pathlib import Path

from research.util.errors import UserError


def expanded(path: str | Path, key: str) -> Path:
    """A path with the user's folder in place of `~`. Raises UserError, naming the setting `key`, if there is no such folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{key} = {path}: this user has no home folder; write the whole path, or set HOME") from None


def cache_folder() -> Path:
    """XDG_CACHE_HOME, or ~/.cache; for a user without a home a private folder among the temporary files.

    Raises UserError if that belongs to someone else.
    """
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"cache-of-user-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} is not this user's, who has no home folder; set HOME or XDG_CACHE_HOME")
    return folder
