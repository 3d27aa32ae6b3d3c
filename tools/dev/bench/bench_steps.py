"""The process of one column of `almanac benchmark`.

`python -m tools.dev.bench.bench_steps COLUMN FOLDER` reads commands from stdin and answers each with a line of JSON.
FOLDER has case.json; `check` of "ours" writes the resolved config, the initial weights and some batches, which the
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

# Steps after a pause that are not counted. A virtual machine may reclaim memory that a stopped process has freed, which the two
# steps in flight then allocate again: on one such machine a step of 1.2 s took 2.5 s after a pause of 15 s.
WARM = 2
CHECKED = 3  # steps whose losses must agree
BATCHES = 8  # real batches that the PyTorch processes repeat


def timed(dispatch: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> list[float]:
    """The milliseconds of each of `steps` steps, after WARM that are not counted.

    `dispatch` starts a step and returns its result, `wait` blocks until a result is ready. One step stays in flight, as in a
    training loop, so a time is measured from the end of a step to the end of the next.
    """
    in_flight, times = dispatch(), []
    start = time.perf_counter()
    for _ in range(WARM + steps):
        following = dispatch()
        wait(in_flight)
        in_flight, now = following, time.perf_counter()
        times.append(1e3 * (now - start))
        start = now
    wait(in_flight)
    return times[WARM:]


def elapsed(dispatch: Callable[[], Any], wait: Callable[[Any], Any], steps: int) -> float:
    """The milliseconds from the start of the first of `steps` steps to the end of the last, with one in flight."""
    start, in_flight = time.perf_counter(), None
    for _ in range(steps):
        following = dispatch()
        if in_flight is not None:
            wait(in_flight)
        in_flight = following
    wait(in_flight)
    return 1e3 * (time.perf_counter() - start)


def without_dropout(model: Mapping[str, Any]) -> dict[str, float]:
    """The dropout rates of a config's `model` group that are not 0, as overrides that set them to 0.

    >>> without_dropout({"width": 8, "dropout": 0.1, "input_dropout": 0.0})
    {'dropout': 0.0}
    """
    return {key: 0.0 for key, value in model.items() if key.endswith("dropout") and value}


def peak_rss() -> int:
    """The peak memory of this process in bytes. `ru_maxrss` would include that of the process that started it."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def make(kind: str, folder: Path) -> Any:
    """The object whose methods are the commands of a column. Each imports only one framework."""
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
    os.dup2(2, 1)  # so that what libraries print is not read as an answer
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
