"""Injuries to the files of a checkpoint, one at a time; what a restore makes of each is the newest step, or the one before."""

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
    "one injury to one file of the newest of two checkpoints, then a restore: harmless is the newest, bit for bit; found, the "
    "one before, bit for bit, with a warning and the damaged one set aside; wrong is anything else"
)


def measure(names: Sequence[str], count: int, seed: int, folder: Path, say: Callable[[str], Any] = print) -> dict:
    """`count` injuries, over each file of each family's checkpoint in each kind in turn."""
    rng = random.Random(seed)
    goods = {family: Good(family, folder / family) for family in names}
    turns = [(f, name, kind) for f, good in goods.items() for name in good.files for kind in INJURIES]
    rng.shuffle(turns)
    cases: list[dict] = []
    with _quiet(folder / "orbax.log"):
        for family, name, kind in itertools.cycle(turns):
            if case := goods[family].injure(name, kind, rng):
                cases.append({"family": family, "file": name, "kind": kind, **case})
                if case["outcome"] == WRONG:
                    say(f"{family} {name}: {kind}: {case['why']}")
            if len(cases) % 50 == 0:
                say(f"{len(cases)} of {count} injuries: {dict(Counter(c['outcome'] for c in cases))}")
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
    bad = [case for case in results["cases"] if case["outcome"] == WRONG]
    return [f"{case['family']} {case['file']}: {case['kind']}: {case['why']}" for case in bad]


KEEP = 9  # more than there are


class Good:
    """The checkpoints of a real run, and what they hold. Each injury is done to a copy."""

    def __init__(self, family: str, folder: Path):
        train(f"{family}/tiny", folder / "run", *WORDS)
        self._folder, self._copy = folder / "run" / "checkpoints", folder / "copy"
        e = reopen.build(family, config.load(f"{family}/tiny"))
        one = mesh.make_mesh({"data": 1, "model": 1}, jax.devices()[:1])
        self._target = state.abstract(e.init_fn, e.tx, one, (), bool(e.ema))[0]
        place = Checkpoints(self._folder)
        self._wanted = {step: _all(*place.restore(self._target, step)) for step in (BEFORE, NEWEST)}
        place.close()
        top = self._folder / str(NEWEST)
        self.files = sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def injure(self, name: str, kind: str, rng: random.Random) -> dict[str, Any] | None:
        """{"how", "outcome", "offline", "why"} of an injury and a restore; None where it would change nothing.

        `offline`: whether the files' own checksums show it, which no device is needed for.
        """
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._folder, self._copy)
        top = self._copy / str(NEWEST)
        how = INJURIES[kind](top / name, rng, [top / other for other in self.files if other != name])
        if how is None:
            return None
        offline = bool(manifest.problems(top))
        outcome, why = self._restore()
        return {"how": how, "outcome": outcome, "offline": offline} | ({"why": why} if why else {})

    def _restore(self) -> tuple[str, str]:
        place = Checkpoints(self._copy, KEEP)  # as a training, which sets damaged ones aside
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found, meta = place.restore(self._target)
            except Exception as e:  # a restore that fails is a finding, whatever it fails with
                return WRONG, f"{type(e).__name__}: {str(e)[:200]}"
            finally:
                place.close()
        step = int(found.step)
        if _all(found, meta) != self._wanted.get(step):
            return WRONG, f"step {step} is not what was saved"
        if step == NEWEST:
            return HARMLESS, ""
        named = any(f"{NEWEST} is damaged" in str(w.message) for w in told)
        aside = (self._copy / f"{NEWEST}.damaged").is_dir() and not (self._copy / str(NEWEST)).exists()
        if not (named and aside):
            return (
                WRONG,
                f"step {step} is used, {'without a warning' if aside else 'and the damaged one not set aside'}",
            )
        return DETECTED, ""


def _all(found: Any, meta: dict) -> tuple[dict, dict]:
    return bits(found), meta


def _counts(cases: Sequence[dict], key: Callable[[dict], str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for case in cases:
        of = found.setdefault(key(case), dict.fromkeys((HARMLESS, DETECTED, WRONG), 0))
        of[case["outcome"]] += 1
    return dict(sorted(found.items()))


def _kind_of_file(name: str) -> str:
    return re.sub(r"[0-9a-f]{32}", "*", name)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Orbax's reads that were given up print their tracebacks whenever they are collected: into a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        gc.collect()  # the last of them
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


# ---- Injuries: (file, random, the step's other files) -> what was done, or None where nothing would change


def _bit(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    data = bytearray(path.read_bytes())
    if not data:
        return None
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"byte {place}, bit {bit}"


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
    inside = rng.choice([i for i, byte in enumerate(data) if byte])  # else nothing might change
    first = rng.randrange(max(0, inside - BLOCK + 1), inside + 1)
    end = min(len(data), rng.randrange(inside + 1, first + BLOCK + 1))
    path.write_bytes(data[:first] + bytes(end - first) + data[end:])
    return f"bytes {first} to {end}"


def _swap(path: Path, rng: random.Random, others: Sequence[Path]) -> str | None:
    mine = path.read_bytes()
    differ = [other for other in others if other.read_bytes() != mine]
    if not differ:
        return None
    other = rng.choice(differ)
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)
    return f"with {other.name}"


INJURIES: dict[str, Callable[[Path, random.Random, Sequence[Path]], str | None]] = {
    "bit": _bit, "truncate": _truncate, "delete": _delete, "empty": _empty, "zeros": _zeros, "swap": _swap,
}  # fmt: skip
