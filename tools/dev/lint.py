"""Checks style and format with ruff, types with mypy."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.root import ROOT


def main(argv: Sequence[str]) -> int:
    """Runs each check from the repository's root -> 1 if one fails, else 0."""
    parser = argparse.ArgumentParser(prog="almanac lint", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="fix and reformat in place")
    fix = parser.parse_args(argv).fix
    checks = {
        "style": ["ruff", "check", "--quiet", *(["--fix"] if fix else [])],
        "format": ["ruff", "format", "--quiet", *([] if fix else ["--check"])],
        "types": ["mypy", "--no-error-summary"],
    }
    return max([_run(name, command) for name, command in checks.items()])


def _run(name: str, command: list[str]) -> int:
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    outcome = "failed" if result.returncode else "ok"
    print(f"{name:8}{outcome:8}{time.perf_counter() - start:5.1f} s")
    if result.returncode:
        print((result.stdout + result.stderr).rstrip())
    return int(result.returncode != 0)
