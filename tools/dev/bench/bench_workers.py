"""The processes of `almanac benchmark`: one for each column, only one of which runs at a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.cluster import cpu
from research.util.errors import UserError
from tools.root import ROOT

TITLES = {
    "ours": "Almanac",
    "eager": "PyTorch eager",
    "eager-alloc": "PyTorch eager, our allocator",
    "compile": "torch.compile",
    "compile-alloc": "torch.compile, our allocator",
    "generate-ours": "Almanac",
    "generate-transformers": "transformers",
}
AGAINST = ("eager", "eager-alloc", "compile", "compile-alloc")
OUR_ALLOCATOR = "-alloc"  # suffix of the names of columns with our allocator settings


def tunables(value: str, ours: bool) -> str:
    """A value of GLIBC_TUNABLES with our setting added, or removed."""
    others = [word for word in value.split(":") if word and word != cpu.TUNABLE]
    return ":".join([*others, cpu.TUNABLE] if ours else others)


def keeps_memory(kind: str) -> bool:
    """Whether a column runs with our allocator settings. False for all if the user has switched them off."""
    ours = kind in ("ours", "generate-ours") or kind.endswith(OUR_ALLOCATOR)
    return ours and os.environ.get(cpu.SWITCH, "").lower() != "off"


class Worker:
    """The process of a column; it is stopped except while it executes a command."""

    def __init__(self, kind: str, folder: Path, cache: Path, threads: int):
        self.kind, self._log, self._start_time = kind, folder / f"{kind}.log", time.perf_counter()
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "OMP_NUM_THREADS": str(threads),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # because the processes share one accelerator
            "GLIBC_TUNABLES": tunables(os.environ.get("GLIBC_TUNABLES", ""), keeps_memory(kind)),
        }
        command = [sys.executable, "-m", "tools.dev.bench.bench_steps", kind, str(folder)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = self._process.pid

    def ask(self, *words: Any) -> dict[str, Any]:
        """Executes a command in the process and stops it again -> the answer. Raises UserError if the command fails."""
        process = self._process
        assert process.stdin and process.stdout
        process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            print(*words, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            lines = self._log.read_text().strip().splitlines() or ["no output"]
            hint = (
                "" if keeps_memory(self.kind) and not self.kind.endswith(OUR_ALLOCATOR) else "; exclude it by --against"
            )
            raise UserError(f"{TITLES[self.kind]} failed: {lines[-1]}{hint}")
        process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def start(self) -> float:
        """Runs the first step -> the seconds since the start of the process."""
        self.ask("start")
        return time.perf_counter() - self._start_time

    def close(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def worker(kind: str, folder: Path, threads: int, cache: str | None = None) -> Iterator[Worker]:
    """A process with the compilation cache FOLDER/CACHE, by default one for each framework and mode; killed at the end."""
    process = Worker(kind, folder, folder / (cache or f"cache_{kind.removesuffix(OUR_ALLOCATOR)}"), threads)
    try:
        yield process
    finally:
        process.close()
