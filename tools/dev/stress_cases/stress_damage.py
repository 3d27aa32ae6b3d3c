"""Corrupts files of a checkpoint, one at a time; a restore must return the newest step intact, or the one before."""

import contextlib
import gc
import itertools
import os
import random
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from research.core import config, mesh, state
from research.run import manifest, reopen
from research.run.checkpoint import Checkpoints
from tools.dev.stress_cases.stress_process import bits, train
from tools.results.stress_table import DETECTED, HARMLESS, WRONG

BEFORE, NEWEST = 3, 6
WORDS = (f"--config.num_steps={NEWEST}", f"--config.save_every={BEFORE}", f"--config.eval_every={NEWEST}")
BLOCK = 4096  # bytes that may be overwritten at once
ABOUT = (
    "one file of the newest of two checkpoints is corrupted, then restored: harmless means the newest, bit for bit; found, the "
    "one before, bit for bit, with a warning and the damaged one set aside; wrong, anything else"
)


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """Corrupts `count` files, cycling in random order through all files of each family's checkpoint and kinds of corruption."""
    rng = random.Random(seed)
    intact = {family: IntactCheckpoints(family, folder / family) for family in names}
    combinations = [(f, name, kind) for f, each in intact.items() for name in each.files for kind in CORRUPTIONS]
    rng.shuffle(combinations)
    cases: list[dict] = []
    with _quiet(folder / "orbax.log"):
        for family, name, kind in itertools.cycle(combinations):
            if case := intact[family].corrupt(name, kind, rng):
                cases.append({"family": family, "file": name, "kind": kind, **case})
                if case["outcome"] == WRONG:
                    say(f"{family} {name}: {kind}: {case['why']}")
            if len(cases) % 50 == 0:
                say(f"{len(cases)} of {count} files: {dict(Counter(c['outcome'] for c in cases))}")
            if len(cases) >= count:
                break
    return {
        "about": ABOUT,
        "overrides": WORDS,
        "by_kind": _counts(cases, lambda case: case["kind"]),
        "by_file": _counts(cases, lambda case: _kind_of_file(case["file"])),
        "cases": cases,
    }


def faults(results: dict) -> list[str]:
    """One line for each corrupted file that was restored wrong."""
    wrong = [case for case in results["cases"] if case["outcome"] == WRONG]
    return [f"{case['family']} {case['file']}: {case['kind']}: {case['why']}" for case in wrong]


KEEP = 9  # more checkpoints than there are


class IntactCheckpoints:
    """The checkpoints of a real run, and their contents. Files are corrupted in a copy."""

    def __init__(self, family: str, folder: Path):
        train(f"{family}/tiny", folder / "run", *WORDS)
        self._folder, self._copy = folder / "run" / "checkpoints", folder / "copy"
        e = reopen.build(family, config.load(f"{family}/tiny"))
        device = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
        self._target = state.abstract(e.init_fn, e.tx, device, (), bool(e.ema))[0]
        checkpoints = Checkpoints(self._folder)
        self._expected = {step: _contents(*checkpoints.restore(self._target, step)) for step in (BEFORE, NEWEST)}
        checkpoints.close()
        top = self._folder / str(NEWEST)
        self.files = sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def corrupt(self, name: str, kind: str, rng: random.Random) -> dict[str, Any] | None:
        """Corrupts a file and restores -> {"how", "outcome", "offline", "why"}; None if the corruption would change nothing.

        offline    whether the files' own checksums detect it, for which no device is needed
        why        the reason, if the outcome is wrong
        """
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._folder, self._copy)
        top = self._copy / str(NEWEST)
        details = CORRUPTIONS[kind](top / name, rng, [top / other for other in self.files if other != name])
        if details is None:
            return None
        offline = bool(manifest.problems(top))
        outcome, why = self._restore()
        return {"how": details, "outcome": outcome, "offline": offline} | ({"why": why} if why else {})

    def _restore(self) -> tuple[str, str]:
        checkpoints = Checkpoints(self._copy, KEEP)  # as in training, which sets damaged ones aside
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                restored, meta = checkpoints.restore(self._target)
            except Exception as e:  # any exception is a failure to report
                return WRONG, f"{type(e).__name__}: {str(e)[:200]}"
            finally:
                checkpoints.close()
        step = int(restored.step)
        if _contents(restored, meta) != self._expected.get(step):
            return WRONG, f"step {step} is not what was saved"
        if step == NEWEST:
            return HARMLESS, ""
        warned = any(f"{NEWEST} is damaged" in str(w.message) for w in caught)
        set_aside = (self._copy / f"{NEWEST}.damaged").is_dir() and not (self._copy / str(NEWEST)).exists()
        if not (warned and set_aside):
            fault = "without a warning" if set_aside else "and the damaged one not set aside"
            return WRONG, f"step {step} is used, {fault}"
        return DETECTED, ""


def _contents(restored: Any, meta: dict) -> tuple[dict, dict]:
    return bits(restored), meta


def _counts(cases: Sequence[dict], key: Callable[[dict], str]) -> dict[str, dict[str, int]]:
    """{key of a case: {outcome: number of cases}}"""
    counts: dict[str, dict[str, int]] = {}
    for case in cases:
        by_outcome = counts.setdefault(key(case), dict.fromkeys((HARMLESS, DETECTED, WRONG), 0))
        by_outcome[case["outcome"]] += 1
    return dict(sorted(counts.items()))


def _kind_of_file(name: str) -> str:
    """A file's path with hexadecimal digests replaced by *.

    >>> _kind_of_file("state/d/0123456789abcdef0123456789abcdef")
    'state/d/*'
    """
    return re.sub(r"[0-9a-f]{32}", "*", name)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Redirects stderr to a file, because abandoned reads of Orbax print tracebacks when they are garbage-collected."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        gc.collect()  # so that the last tracebacks go to the file
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)


# ---- Corruptions: (file, random generator, the step's other files) -> details, or None if nothing would change


def _bit(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    data = bytearray(path.read_bytes())
    if not data:
        return None
    offset, bit = rng.randrange(len(data)), rng.randrange(8)
    data[offset] ^= 1 << bit
    path.write_bytes(data)
    return f"byte {offset}, bit {bit}"


def _truncate(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    if (size := path.stat().st_size) < 2:
        return None
    os.truncate(path, end := rng.randrange(1, size))
    return f"{size} to {end} bytes"


def _delete(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    path.unlink()
    return ""


def _empty(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    if not path.stat().st_size:
        return None
    os.truncate(path, 0)
    return ""


def _zeros(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    data = path.read_bytes()
    if not any(data):
        return None
    nonzero = rng.choice([i for i, byte in enumerate(data) if byte])  # ensures a change
    first = rng.randrange(max(0, nonzero - BLOCK + 1), nonzero + 1)
    end = min(len(data), rng.randrange(nonzero + 1, first + BLOCK + 1))
    path.write_bytes(data[:first] + bytes(end - first) + data[end:])
    return f"bytes {first} to {end}"


def _swap(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    data = path.read_bytes()
    different = [other for other in others if other.read_bytes() != data]
    if not different:
        return None
    other = rng.choice(different)
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return f"with {other.name}"


CORRUPTIONS: dict[str, Callable[[Path, random.Random, Sequence[Path]], str | None]] = {
    "bit": _bit, "truncate": _truncate, "delete": _delete, "empty": _empty, "zeros": _zeros, "swap": _swap,
}  # fmt: skip
