"""A training process under `stress_child`, seen from its parent: what it says, how it ends, what it leaves."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.core.mesh import path_name
from research.util.errors import UserError, nearest
from tools.root import ROOT

PATIENCE = 900.0  # seconds in which a process must say something, or end


def families(wanted: Sequence[str] = ()) -> list[str]:
    """The families of this house, or those of them that are wanted."""
    known = sorted(p.parent.name for p in (ROOT / "experiments").glob("*/train.py"))
    for name in wanted:
        if name not in known:
            raise UserError(f"--family={name}: no such family{nearest(name, known)}")
    return [name for name in known if name in wanted] if wanted else known


class Life:
    """One process of a run, `almanac train NAME --workdir DIR ...`, on virtual CPU devices; `wishes`: see the child's."""

    def __init__(
        self, name: str, workdir: Path, *words: str, devices: int = 1, host: int = 0, tell: bool = False, **wishes: Any
    ):  # fmt: skip
        self.workdir, self._text = workdir, b""
        self.log = workdir.with_name(f"{workdir.name}{f'_{host}' if host else ''}.log")  # of all lives
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._before = self.log.stat().st_size if self.log.exists() else 0
        self._pipe, end = os.pipe() if tell else (None, None)
        wishes |= {"tell": end} if tell else {}
        env = {
            **os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }  # fmt: skip
        command = [sys.executable, "-m", "tools.dev.stress_cases.stress_child", json.dumps(wishes)]
        self.began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "train", name, "--workdir", str(workdir), *words],
                env=env, stdout=log, stderr=log, pass_fds=[end] if end is not None else [],
            )  # fmt: skip
        if end is not None:
            os.close(end)

    def __enter__(self) -> "Life":
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        if self._pipe is not None:
            os.close(self._pipe)

    def lines(self) -> Iterator[str]:
        """What it says, line by line, until it is dead."""
        assert self._pipe is not None
        while True:
            while b"\n" in self._text:
                line, _, self._text = self._text.partition(b"\n")
                yield line.decode()
            if not select.select([self._pipe], [], [], PATIENCE)[0]:
                self.kill()
                raise UserError(f"{self.workdir}: nothing happened for {PATIENCE:.0f} s; see {self.log}")
            if not (more := os.read(self._pipe, 4096)):
                return
            self._text += more

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def problem(self, *statuses: int) -> str:
        """Waits for the end: "" where it is one of these, else what the process said last."""
        try:
            status: int | None = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            status = None
        if status in statuses:
            return ""
        said = self.text().strip().splitlines() or ["it said nothing"]
        return f"ended with status {status}: {said[-1]}"

    def text(self) -> str:
        """What this life has printed."""
        with self.log.open("rb") as file:
            file.seek(self._before)
            return file.read().decode(errors="replace")


def train(name: str, workdir: Path, *words: str, status: int = 0, **how: Any) -> str:
    """A life from its beginning to its end, which must be of this status -> what it printed."""
    with Life(name, workdir, *words, **how) as life:
        if problem := life.problem(status):
            raise UserError(f"{workdir} {problem}; see {life.log}")
        return life.text()


def newest(workdir: Path) -> int:
    """The step of the newest whole checkpoint, 0 for none."""
    return max((int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()), default=0)


def lines(path: Path) -> list[dict]:
    """The objects of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def bits(tree: Any) -> dict[str, tuple]:
    """{leaf's name: (dtype, shape, bytes)}; of random keys, their words."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        x = np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        found[path_name(path)] = (str(x.dtype), x.shape, x.tobytes())
    return found
