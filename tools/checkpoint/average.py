"""`almanac checkpoint average`."""

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
    """Returns a line that tells what was averaged. UserError where there are fewer, one is damaged, or DIR is in the way."""
    if last < 1:
        raise UserError(f"--last {last}: at least 1")
    folder, target = files.split(run)[0], Path(out)
    if target.exists():
        raise UserError(f"{target} exists; give another name to --out")
    found = [one for one in files.find(folder) if one.whole and one.kind != "best"]
    if len(found) < last:
        raise UserError(
            f"{folder} keeps {len(found)} checkpoints, fewer than --last {last}; train with a keep of at least {last}"
        )
    steps = sorted(one.step for one in found)[-last:]
    _, state, newest = reopen.load(folder, str(steps[-1]))
    mean = average.mean(_variables(folder, steps, state))
    state = state.replace(**jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), mean, _of(state)))
    part = target.with_name(target.name + ".part")
    try:
        with write_errors(target):
            place = Checkpoints(part / "best", 1)
            place.save(newest, state, {"averaged": steps})
            place.wait()
            place.close()
            copy.copy_about(folder, part)
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return f"{target}: the mean of {len(steps)} checkpoints of {folder}, of step {', '.join(map(str, steps))}"


def _of(state: Any) -> dict[str, Any]:
    return {"params": state.params, "model_state": state.model_state, "ema": state.ema}


def _variables(folder: Path, steps: list[int], state: Any) -> Iterator[Any]:
    """What is averaged of each step, verified, one after the other; the newest is `state`."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    place = Checkpoints(folder / "checkpoints")
    try:
        for step in steps[:-1]:
            yield _of(place.restore_one(step, shapes)[0])
    except Damaged as e:
        raise UserError(f"{folder}: checkpoint {step} is damaged: {e}; see `almanac checkpoint verify`") from None
    finally:
        place.close()
    yield _of(state)
