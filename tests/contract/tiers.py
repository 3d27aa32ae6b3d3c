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
    """The tests that one worker runs: those of a file or, of the contract, of a family.

    >>> scope("tests/contract/in_process/test_contract.py::test_it_resumes[gan-2]"), scope("tests/test_gpu.py::test_a[gan]")
    ('gan', 'tests/test_gpu.py')
    """
    path, _, test = nodeid.partition("::")
    family = re.search(r"[\[-](\w+)[\]-]", test) if path.startswith("tests/contract/") else None
    return family[1] if family and (ROOT / "experiments" / family[1]).is_dir() else path
