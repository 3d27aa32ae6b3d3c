"""Places and settings that several commands share."""

import os
from pathlib import Path


def jit_cache() -> Path:
    """The folder of compiled programs: $JAX_COMPILATION_CACHE_DIR, else one in the user's cache."""
    if folder := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "almanac" / "jit"
