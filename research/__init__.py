"""Almanac, the library. `open_run` opens a run directory: see research/run/open_run.py."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "open_run":  # imported when it is asked for: it needs JAX, and most of what imports a room does not
        from research.run.open_run import open_run

        return open_run
    raise AttributeError(f"module 'research' has no attribute {name!r}")
