"""The user's own data: what the config says of it, the files of a folder, lists for a report."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from research.util.errors import UserError


def option(cfg: Mapping[str, Any], key: str, default: Any) -> Any:
    """`cfg[key]`, or the default where it is None or the config has no such key."""
    value = cfg[key] if key in list(cfg) else None
    return default if value is None else value


def root(cfg: Mapping[str, Any]) -> Path:
    """The existing file or folder that `cfg["path"]` names."""
    path = option(cfg, "path", None)
    if path is None:
        raise UserError(f"data.path is not set; data.source = {cfg['source']!r} needs it")
    if not (found := Path(path).expanduser()).exists():
        raise UserError(f"data.path = {path} does not exist")
    return found


def read(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises UserError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot read {path} as UTF-8 text: {e}") from None


def read_pair(path: str | Path) -> tuple[str, str]:
    """The first line of a UTF-8 file and the rest: a question, and the passage that may answer it."""
    first, _, rest = read(path).strip().partition("\n")
    return first, rest


def visible(root: Path) -> Iterator[Path]:
    """Files under `root` by name, in any depth; hidden ones, and hidden folders, left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def listed(title: str, items: list[str], most: int = 8) -> Iterator[str]:
    """A report's list, short enough for one screen."""
    if items:
        yield f"{title} {len(items)}"
    yield from (f"         {item}" for item in items[:most])
    if len(items) > most:
        yield f"         and {len(items) - most} more"
