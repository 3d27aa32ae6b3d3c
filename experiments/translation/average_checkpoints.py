"""The mean of a run's last checkpoints, which is evaluated once, at the end of the run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from research.algorithms import average
from research.core.config import TrackedConfig
from research.core.mesh import path_name
from research.interop import weights
from research.run import checkpoint_files
from research.util.errors import UserError


def splits(parts: Iterable[str]) -> dict[str, str]:
    """The splits that are evaluated at the end -> their part of the data.

    >>> splits(["valid", "test"])
    {'final_valid': 'valid', 'test': 'test'}
    """
    return {f"final_{part}" if part.startswith("valid") else part: part for part in parts}


def check(cfg: TrackedConfig) -> None:
    """Raises UserError unless `average.last` is from 1 to the number of checkpoints that the run keeps."""
    if not 1 <= cfg.average.last <= cfg.keep:
        raise UserError(
            f"average.last = {cfg.average.last}: at least 1, and at most the keep = {cfg.keep} newest checkpoints"
        )


def averaged(folder: Path, state: Any, done: int, cfg: TrackedConfig) -> tuple[Any, str]:
    """-> the state with the mean parameters of the newest `average.last` checkpoints, and a line that names their steps.

    `state`, that of step `done`, is the newest. The others are checkpoints at multiples of `save_every`; if fewer are left
    (because others were saved in between), the mean is over those.
    """
    checkpoints = [file for file in checkpoint_files.find(folder) if file.whole and file.kind != "best"]
    steps = sorted(file.step for file in checkpoints if file.step < done and file.step % cfg.save_every == 0)
    steps = steps[len(steps) - cfg.average.last + 1 :] if cfg.average.last > 1 else []
    params = state.ema or state.params
    trees = (_as_tree(params, weights.of_checkpoint(f"{folder}@{step}")[1]) for step in steps)
    if steps:
        mean = average.mean([*trees, jax.device_get(params)])
        params = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), mean, params)
    line = f"final    mean of {len(steps) + 1} checkpoints, of step {', '.join(map(str, [*steps, done]))}"
    return state.replace(params=params, ema=params if state.ema else state.ema), line


def _as_tree(params: Any, arrays: dict) -> Any:
    """The parameters of a checkpoint, {path: array}, as a tree like `params`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[f"params/{path_name(path)}"], params)
