"""Almanac, the library.

open_run     opens a run directory: see research/run/open_run.py
open_bundle  opens what `almanac export` wrote: see research/serving/bundle.py
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "open_run":  # imported when it is asked for: they need JAX, and most of what imports a room does not
        from research.run.open_run import open_run

        return open_run
    if name == "open_bundle":
        from research.serving.bundle import open_bundle

        return open_bundle
    raise AttributeError(f"module 'research' has no attribute {name!r}")
