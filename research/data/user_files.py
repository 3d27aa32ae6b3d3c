"""The user's own data: options of the config, the files of a folder, lists for a report."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from research.util.errors import UserError


def option(cfg: Mapping[str, Any], key: str, default: Any) -> Any:
    """`cfg[key]`, or the default if it is None or missing."""
    value = cfg[key] if key in list(cfg) else None
    return default if value is None else value


def root(cfg: Mapping[str, Any]) -> Path:
    """The file or folder `cfg["path"]`. Raises UserError if it is not set or does not exist."""
    path = option(cfg, "path", None)
    if path is None:
        raise UserError(f"data.path is not set; data.source = {cfg['source']!r} needs it")
    if not (existing := Path(path).expanduser()).exists():
        raise UserError(f"data.path = {path} does not exist")
    return existing


def read(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises UserError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot read {path} as UTF-8 text: {e}") from None


def read_pair(path: str | Path) -> tuple[str, str]:
    """A UTF-8 file -> its first line and the remaining text: a question and a passage. Raises UserError if it cannot be read."""
    question, _, passage = read(path).strip().partition("\n")
    return question, passage


def visible(root: Path) -> Iterator[Path]:
    """Files under `root` at any depth, sorted by name; hidden files and folders are skipped."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def listed(title: str, items: list[str], most: int = 8) -> Iterator[str]:
    """Lines of a report: the title with the number of items, and at most `most` of the items.

    >>> list(listed("skipped", ["a", "b"], most=1))
    ['skipped 2', '         a', '         and 1 more']
    """
    if items:
        yield f"{title} {len(items)}"
    yield from (f"         {item}" for item in items[:most])
    if len(items) > most:
        yield f"         and {len(items) - most} more"
