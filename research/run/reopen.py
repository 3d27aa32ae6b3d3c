"""A run directory opened again: its experiment and its state, on whatever devices there are."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from research.cluster import determinism, device
from research.core import config, mesh, state
from research.core.experiment import Experiment
from research.core.state import TrainState
from research.run.checkpoint import Checkpoints, NoWholeCheckpoint
from research.util import run_files
from research.util.errors import UserError


def family(name: str) -> Any:
    """The module of an experiment's build and train."""
    return importlib.import_module(f"{config.EXPERIMENTS}.{config.family(name)}.train")


def build(name: str, cfg: Any) -> Experiment:
    return family(name).build(cfg)


def load_config(folder: Path) -> Any:
    """The config of a run; keys that its family got since then are None in it. Raises UserError if it is none."""
    path = run_files.inside(folder, "config.json")
    if not path.is_file():
        raise UserError(f"{folder} is no run directory: it has no config.json")
    cfg = config.from_json(path)
    if not cfg.get("name"):
        raise UserError(f"{path}: its config has no name")
    if cfg.name.split("/")[0] in config.families():  # else `build` says that there is none
        _complete(cfg, config.defaults_of(cfg))
    return cfg.lock()


def _complete(cfg: Any, known: Any) -> None:
    """Adds the keys that `cfg` lacks and whose default is None, the absence of a value."""
    for key, value in known.items():
        if isinstance(value, ConfigDict):
            if key not in cfg:
                cfg[key] = ConfigDict()
            if isinstance(cfg[key], ConfigDict):
                _complete(cfg[key], value)
        elif value is None and key not in cfg:
            cfg[key] = None


def load(folder: str | Path, which: str = "best", changes: Sequence[str] = ()) -> tuple[Experiment, TrainState, int]:
    """-> experiment, state, step. `which`: "best" (the last, where no best is kept), "last", or a step.

    `changes` are overrides "evals.NAME.KEY=VALUE" of the run's config: further sets to evaluate on. Raises UserError for others.
    """
    folder = Path(folder)
    cfg = load_config(folder)
    for text in changes:
        key, _, value = text.removeprefix("--config.").partition("=")
        if not key.startswith("evals."):
            raise UserError(
                f"config key {key} of a run that was trained stays as it is; only evals.NAME.KEY may be added"
            )
        config.override(cfg, key, value)
    if cfg.get("deterministic"):
        determinism.switch_on()
    device.use_compilation_cache()
    e = build(cfg.name, cfg)
    devices = mesh.make_mesh(dict.fromkeys(e.cfg.mesh, 1) | {"data": 1}, jax.devices()[:1])
    target, _ = state.abstract(e.init_fn, e.tx, devices, (), bool(e.ema))
    restored = _restore(folder, which, target)
    return e, restored, int(restored.step)


def _restore(folder: Path, which: str, target: Any) -> TrainState:
    if which not in ("best", "last") and not which.isdigit():
        raise UserError(f"--checkpoint={which}: 'best', 'last' or a step")
    if which == "best" and Checkpoints(folder / "best").steps():
        try:
            return _of(folder / "best", None, target)
        except NoWholeCheckpoint:
            print(f"{folder / 'best'} has no whole checkpoint: the last one is used in its place", file=sys.stderr)
    return _of(folder / "checkpoints", int(which) if which.isdigit() else None, target)


def _of(place: Path, step: int | None, target: Any) -> TrainState:
    checkpoints = Checkpoints(place)
    try:
        if not checkpoints.steps():
            raise UserError(f"{place.parent} holds no checkpoint yet: train it first, or wait for its first save")
        return checkpoints.restore(target, step)[0]
    finally:
        checkpoints.close()
