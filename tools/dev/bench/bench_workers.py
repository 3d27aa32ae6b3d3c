"""The processes of `almanac benchmark`: one for each column, of which one runs at a time."""

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
SAME = "-alloc"  # ends the names of columns with our allocator settings


def tunables(given: str, ours: bool) -> str:
    """The value of GLIBC_TUNABLES with our setting, or without it."""
    others = [word for word in given.split(":") if word and word != cpu.TUNABLE]
    return ":".join([*others, cpu.TUNABLE] if ours else others)


def keeps_memory(kind: str) -> bool:
    """Whether a column runs with our allocator settings, as far as the user has not switched them off."""
    ours = kind in ("ours", "generate-ours") or kind.endswith(SAME)
    return ours and os.environ.get(cpu.SWITCH, "").lower() != "off"


class Worker:
    """A column's process. It runs only while it is asked for something."""

    def __init__(self, kind: str, folder: Path, cache: Path, threads: int):
        self.kind, self._log, self._began = kind, folder / f"{kind}.log", time.perf_counter()
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "OMP_NUM_THREADS": str(threads),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # they share one accelerator
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
        """One command -> its answer; the process is stopped from then on."""
        process = self._process
        assert process.stdin and process.stdout
        process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            print(*words, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            said = self._log.read_text().strip().splitlines() or ["it said nothing"]
            remedy = "" if keeps_memory(self.kind) and not self.kind.endswith(SAME) else "; leave it out by --against"
            raise UserError(f"{TITLES[self.kind]} failed: {said[-1]}{remedy}")
        process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def start(self) -> float:
        """Seconds from the beginning of the process to the end of its first step."""
        self.ask("start")
        return time.perf_counter() - self._began

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def worker(kind: str, folder: Path, threads: int, cache: str | None = None) -> Iterator[Worker]:
    """A process with the compilation cache FOLDER/CACHE; by default one cache for each framework and mode."""
    made = Worker(kind, folder, folder / (cache or f"cache_{kind.removesuffix(SAME)}"), threads)
    try:
        yield made
    finally:
        made.close()
