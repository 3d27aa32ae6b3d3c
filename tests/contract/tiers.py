"""Which families the quick run trains in real processes. Imported before JAX is set up: nothing of ours here."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNLIKE = {"gan", "image_classification", "language_model"}  # two networks; batch statistics; long texts, and samples


def quick() -> set[str]:
    """Three unlike families, and those with changes that are not committed."""
    if not shutil.which("git"):
        return UNLIKE
    words = ["git", "status", "--porcelain", "--untracked-files=all", "--", "experiments"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return UNLIKE | {line[3:].split("/")[1] for line in done.stdout.splitlines() if line.count("/") > 1}
