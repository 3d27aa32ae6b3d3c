"""What ties a checkpoint to its run: a random id of the run, and digests of the configs that it has trained with."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research.util import run_files
from research.util.errors import UserError
from research.util.nested import plain, tuples

KEY = "identity"  # of a checkpoint's metadata
# Keys that say where a run's arrays lie and when they are saved, not what they are: they may change.
FREE = ("mesh", "rules", "save_every", "save_seconds", "keep", "keep_every")


class Identity(NamedTuple):
    """Of a run: its id (None: begun before there were ids), the digest of the config it trains with now, and those of all its
    attempts."""

    run: str | None
    config: str
    configs: frozenset[str]


def new_id() -> str:
    return os.urandom(8).hex()


def digest(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a config, without the keys in FREE."""
    values = tuples({key: value for key, value in plain(config).items() if key not in FREE})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def of_run(folder: Path) -> Identity | None:
    """The identity in a run directory's config.json; None if there is none."""
    try:
        about = run_files.read_object(run_files.inside(folder, "config.json"), run_files.CONFIG)
        configs = frozenset(attempt["config"] for attempt in about["attempts"])
        return Identity(about["run"], digest(about["config"]), configs)
    except (UserError, LookupError):
        return None


def problem(saved: Any, step: int, run: Identity | None) -> str:
    """Why a checkpoint in the folder of `step` does not belong to `run`; "" if it does, or does not say.

    `saved` is what the checkpoint says: {"step", "run", "config"}, or None from before checkpoints did. What either side
    does not know is not compared.
    """
    if not isinstance(saved, Mapping):
        return ""
    if saved.get("step") != step:
        return f"it was saved as step {saved.get('step')}, and its folder says {step}"
    if run is None or run.run is None or saved.get("run") is None:
        return ""
    if saved["run"] != run.run:
        return f"it was saved by another run ({saved['run']}; this one is {run.run})"
    if saved.get("config") not in run.configs | {run.config}:
        return f"it was saved with another config ({saved.get('config')}), which none of this run's attempts had"
    return ""
