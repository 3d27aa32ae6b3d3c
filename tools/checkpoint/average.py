"""`almanac checkpoint average`: the mean of a run's newest checkpoints."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from research.algorithms import average
from research.run import checkpoint_files as files
from research.run import reopen
from research.run.checkpoint import Checkpoints
from research.run.integrity import Damaged
from research.util.errors import UserError
from research.util.files import write_errors
from tools.checkpoint import copy


def write(run: str, last: int, out: str) -> str:
    """Writes the mean of the `last` newest checkpoints of `run` to the new run directory `out`. Returns a line for the terminal.

    Raises UserError if there are fewer checkpoints, one is damaged, or `out` exists.
    """
    if last < 1:
        raise UserError(f"--last {last}: at least 1")
    folder, target = files.split(run)[0], Path(out)
    if target.exists():
        raise UserError(f"{target} exists; give another name to --out")
    checkpoints = [checkpoint for checkpoint in files.find(folder) if checkpoint.whole and checkpoint.kind != "best"]
    if len(checkpoints) < last:
        raise UserError(
            f"{folder} keeps {len(checkpoints)} checkpoints, fewer than --last {last}; train with a keep of at least {last}"
        )
    steps = sorted(checkpoint.step for checkpoint in checkpoints)[-last:]
    _, state, newest = reopen.load(folder, str(steps[-1]))
    mean = average.mean(_averaged_parts(folder, steps, state))
    state = state.replace(**jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), mean, _parts(state)))
    part = target.with_name(target.name + ".part")
    try:
        with write_errors(target):
            best = Checkpoints(part / "best", 1)
            best.save(newest, state, {"averaged": steps})
            best.wait()
            best.close()
            copy.copy_run_files(folder, part)
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return f"{target}: the mean of {len(steps)} checkpoints of {folder}, of step {', '.join(map(str, steps))}"


def _parts(state: Any) -> dict[str, Any]:
    """The parts of a state that are averaged; the others are those of the newest checkpoint."""
    return {"params": state.params, "model_state": state.model_state, "ema": state.ema}


def _averaged_parts(folder: Path, steps: list[int], state: Any) -> Iterator[Any]:
    """The averaged parts of each checkpoint, verified, one at a time; `state` is the newest."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        for step in steps[:-1]:
            yield _parts(checkpoints.restore_one(step, shapes)[0])
    except Damaged as e:
        raise UserError(f"{folder}: checkpoint {step} is damaged: {e}; see `almanac checkpoint verify`") from None
    finally:
        checkpoints.close()
    yield _parts(state)
