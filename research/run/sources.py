"""The source files that a run is made of, so that code edited between two attempts of it is noticed."""

import functools
import hashlib
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of the project, what changes no number; a notebook's own modules count.
APART = ("tools", "tests", "colab")


def imported() -> dict[str, str]:
    """{path: 16 hexadecimal digits of its SHA-256} of every module that is imported and was not installed.

    Paths are relative to the project's folder where they lie in it.
    """
    files = {file for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}
    paths = sorted(path for file in files if (path := Path(file).resolve()).suffix == ".py" and _counts(path))
    return {name: found for path in paths for name, found in [(_name(path), _digest(path))] if found}


def edited(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that both know and that differ. What one attempt alone has imported may depend on where it began."""
    return [name for name, found in now.items() if before.get(name, found) != found]


def digest(files: Mapping[str, str]) -> str:
    """16 hexadecimal digits of all of `imported`."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]


def _counts(path: Path) -> bool:
    if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in APART:
        return False
    return not any(path.is_relative_to(place) for place in _installed()) and "site-packages" not in path.parts


@functools.cache
def _installed() -> tuple[Path, ...]:
    return tuple(
        {Path(place).resolve() for name, place in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))}
    )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:  # deleted since it was imported
        return None
