"""Starts and observes training processes that run under `stress_child`, and reads the files that they leave."""

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

TIMEOUT = 900.0  # seconds in which a process must report something, or end


def families(selected: Sequence[str] = ()) -> list[str]:
    """The names of the experiments' families, or of the selected ones. Raises UserError if there is no such family."""
    names = sorted(p.parent.name for p in (ROOT / "experiments").glob("*/train.py"))
    for name in selected:
        if name not in names:
            raise UserError(f"--family={name}: no such family{nearest(name, names)}")
    return [name for name in names if name in selected] if selected else names


class TrainingProcess:
    """A process that runs `almanac train NAME --workdir DIR ...` on virtual CPU devices; killed at the end of the context.

    name, workdir, words    the command line
    devices, host           number of devices; index of the host, for the name of the log
    phases                  whether `lines` yields the phases of the run
    options                 further options of `stress_child`
    """

    def __init__(
        self, name: str, workdir: Path, *words: str, devices: int = 1, host: int = 0, phases: bool = False, **options: Any
    ):  # fmt: skip
        self.workdir, self._text = workdir, b""
        self.log = workdir.with_name(f"{workdir.name}{f'_{host}' if host else ''}.log")  # of all attempts
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._before = self.log.stat().st_size if self.log.exists() else 0
        self._pipe, end = os.pipe() if phases else (None, None)
        options |= {"phases": end} if phases else {}
        env = {
            **os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }  # fmt: skip
        command = [sys.executable, "-m", "tools.dev.stress_cases.stress_child", json.dumps(options)]
        self.start_time = time.monotonic()
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [*command, "train", name, "--workdir", str(workdir), *words],
                env=env, stdout=log, stderr=log, pass_fds=[end] if end is not None else [],
            )  # fmt: skip
        if end is not None:
            os.close(end)

    def __enter__(self) -> "TrainingProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        if self._pipe is not None:
            os.close(self._pipe)

    def lines(self) -> Iterator[str]:
        """Yields the lines that the process reports, until it ends. Raises UserError after TIMEOUT seconds without one."""
        assert self._pipe is not None
        while True:
            while b"\n" in self._text:
                line, _, self._text = self._text.partition(b"\n")
                yield line.decode()
            if not select.select([self._pipe], [], [], TIMEOUT)[0]:
                self.kill()
                raise UserError(f"{self.workdir}: no progress for {TIMEOUT:.0f} s; see {self.log}")
            if not (data := os.read(self._pipe, 4096)):
                return
            self._text += data

    def kill(self) -> None:
        """Sends SIGKILL, unless the process has ended, and waits."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def problem(self, *statuses: int) -> str:
        """Waits for the end -> "" if the exit status is one of these, else a line with the status and the log's last line."""
        try:
            status: int | None = self.popen.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            status = None
        if status in statuses:
            return ""
        lines = self.text().strip().splitlines() or ["no output"]
        return f"ended with status {status}: {lines[-1]}"

    def text(self) -> str:
        """What this process has printed."""
        with self.log.open("rb") as file:
            file.seek(self._before)
            return file.read().decode(errors="replace")


def train(name: str, workdir: Path, *words: str, status: int = 0, **options: Any) -> str:
    """Runs a training process to its end -> what it printed. Raises UserError if its exit status is another."""
    with TrainingProcess(name, workdir, *words, **options) as process:
        if problem := process.problem(status):
            raise UserError(f"{workdir} {problem}; see {process.log}")
        return process.text()


def newest(workdir: Path) -> int:
    """The step of the newest whole checkpoint; 0 if there is none."""
    return max((int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()), default=0)


def lines(path: Path) -> list[dict]:
    """The objects of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def bits(tree: Any) -> dict[str, tuple]:
    """{path of a leaf: (dtype, shape, bytes)}; random keys as their words."""
    by_path = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        x = np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        by_path[path_name(path)] = (str(x.dtype), x.shape, x.tobytes())
    return by_path
