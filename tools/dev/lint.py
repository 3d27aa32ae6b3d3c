"""Style and format by ruff, types by mypy."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.root import ROOT


def main(argv: Sequence[str]) -> int:
    """Runs each check from the repository's root; 1 if any finds a fault."""
    parser = argparse.ArgumentParser(prog="almanac lint", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="mend and reformat in place")
    fix = parser.parse_args(argv).fix
    checks = {
        "style": ["ruff", "check", "--quiet", *(["--fix"] if fix else [])],
        "format": ["ruff", "format", "--quiet", *([] if fix else ["--check"])],
        "types": ["mypy", "--no-error-summary"],
    }
    return max([_run(name, command) for name, command in checks.items()])


def _run(name: str, command: list[str]) -> int:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    verdict = "failed" if done.returncode else "ok"
    print(f"{name:8}{verdict:8}{time.perf_counter() - start:5.1f} s")
    if done.returncode:
        print((done.stdout + done.stderr).rstrip())
    return int(done.returncode != 0)
