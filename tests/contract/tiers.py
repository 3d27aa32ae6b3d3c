"""Which families the quick run trains in real processes, and which tests belong together.

Imported before JAX is set up: nothing of ours here.
"""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNLIKE = {"gan", "language_model"}  # two networks; long texts, and samples


def quick() -> set[str]:
    """Two unlike families, and those with changes that are not committed."""
    if not shutil.which("git"):
        return UNLIKE
    words = ["git", "status", "--porcelain", "--untracked-files=all", "--", "experiments"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return UNLIKE | {line[3:].split("/")[1] for line in done.stdout.splitlines() if line.count("/") > 1}


def scope(nodeid: str) -> str:
    """The tests that one worker runs: those of a file or, of the contract, of a family. The commands of a page stand alone."""
    path, _, test = nodeid.partition("::")
    if test.startswith("test_every_command_works["):  # a minute each
        return nodeid
    words = re.split(r"[\[\]-]", test)[1:] if path.startswith("tests/contract/") else []
    return next((word for word in words if word and (ROOT / "experiments" / word).is_dir()), path)
