"""What a run ends with: the mean of its last checkpoints, scored once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from research.algorithms import average
from research.core.mesh import path_name
from research.interop import weights
from research.run import checkpoint_files
from research.util import run_files
from research.util.errors import UserError

PARTS = {"final_valid": "valid", "test": "test"}  # the splits that are measured at the end -> the part of the data


def check(cfg: Any) -> None:
    if not 1 <= cfg.average.last <= cfg.keep:
        raise UserError(
            f"average.last = {cfg.average.last}: at least 1, and at most the keep = {cfg.keep} newest checkpoints"
        )


def averaged(folder: Path, state: Any, done: int, cfg: Any) -> tuple[Any, str]:
    """The state with the mean parameters of the newest `average.last` checkpoints of whole save intervals and of its own.

    Also a line that tells of which. Where fewer are kept (others came between), it is of those.
    """
    older = [one for one in checkpoint_files.find(folder) if one.whole and one.kind != "best"]
    steps = sorted(one.step for one in older if one.step < done and one.step % cfg.save_every == 0)
    steps = steps[len(steps) - cfg.average.last + 1 :] if cfg.average.last > 1 else []
    params = state.ema or state.params
    trees = (_as(params, weights.of_checkpoint(f"{folder}@{step}")[1]) for step in steps)
    if steps:
        mean = average.mean([*trees, jax.device_get(params)])
        params = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), mean, params)
    told = f"final    mean of {len(steps) + 1} checkpoints, of step {', '.join(map(str, [*steps, done]))}"
    return state.replace(params=params, ema=params if state.ema else state.ema), told


def _as(params: Any, arrays: dict) -> Any:
    """The arrays of a checkpoint by path, as a tree like `params`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[f"params/{path_name(path)}"], params)


def missing(folder: Path, done: int, splits: Iterable[str]) -> list[str]:
    """Those splits whose final scores the log does not have yet: a run may be killed between its end and its last line."""
    log = folder / "metrics.jsonl"
    rows = run_files.read_rows(log, run_files.METRICS) if log.exists() else []
    there = {row["split"] for row in rows if row["step"] == done}
    return [split for split in splits if split not in there]
