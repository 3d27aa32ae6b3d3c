"""One column in one process: what `almanac benchmark` starts and asks for steps.

`python -m tools.dev.bench.bench_steps COLUMN FOLDER` reads commands from stdin and answers each with a line of JSON.
FOLDER holds case.json; `check` of "ours" adds the resolved config, our first weights and some batches, which the
PyTorch processes read.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from research.util.errors import UserError

# Not counted after a pause. A virtual machine may take back what a stopped process has freed, and the two steps that are then
# in flight each take it anew: on one such machine a step of 1.2 s took 2.5 s after 15 s.
WARM = 2
CHECKED = 3  # steps that both must agree on
BATCHES = 8  # real batches that the PyTorch processes go through in turn


def timed(dispatch: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> list[float]:
    """Milliseconds of `steps` steps, after WARM that are not counted.

    One step stays in flight, as in a training loop: a time runs from a step's end to the next's.
    """
    flying, times = dispatch(), []
    start = time.perf_counter()
    for _ in range(WARM + steps):
        following = dispatch()
        wait(flying)
        flying, now = following, time.perf_counter()
        times.append(1e3 * (now - start))
        start = now
    wait(flying)
    return times[WARM:]


def elapsed(dispatch: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> float:
    """Milliseconds from the beginning of the first of `steps` steps to the end of the last, one in flight."""
    start, flying = time.perf_counter(), None
    for _ in range(steps):
        following = dispatch()
        if flying is not None:
            wait(flying)
        flying = following
    wait(flying)
    return 1e3 * (time.perf_counter() - start)


def without_dropout(model: Mapping[str, Any]) -> dict[str, float]:
    """The keys of a config's `model` that drop something -> 0."""
    return {key: 0.0 for key, value in model.items() if key.endswith("dropout") and value}


def peak_rss() -> int:
    """Bytes. `ru_maxrss` would count the process that started this one."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def make(kind: str, folder: Path) -> Any:
    """What answers a column's commands: its methods are the commands. Each imports one framework alone."""
    if kind == "ours":
        from tools.dev.bench.bench_ours import Ours

        return Ours(kind, folder)
    if kind == "generate-ours":
        from tools.dev.bench.bench_generate_ours import OurGenerator

        return OurGenerator(kind, folder)
    if kind == "generate-transformers":
        from tools.dev.bench.bench_generate_torch import TorchGenerator

        return TorchGenerator(kind, folder)
    from tools.dev.bench.bench_torch import Torch

    return Torch(kind, folder)


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    worker: Any = None
    for line in sys.stdin:
        verb, *words = line.split()
        try:
            worker = worker or make(kind, folder)
            answer = getattr(worker, verb)(*map(int, words))
        except UserError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
