"""config.json: what a run is made of, and the history of its attempts, each a start that trained.

name config versions commit devices parameters fingerprint    of the latest attempt
config_version   of the config's keys: research/core/upgrade.py
run        the run's random id, which its checkpoints carry; null for a run that was begun before there were ids
sources    {file: digest} of the code
attempts   when, from which step, and what had changed: the config, source files, devices
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from research.core import upgrade
from research.run import identity, sources
from research.run.identity import Identity


def identify(before: Mapping[str, Any], config: Mapping[str, Any]) -> Identity:
    """The identity of the run whose config.json is `before`: a new id for a new run, none for a run from before ids."""
    digest = identity.digest(config)
    known = frozenset(attempt["config"] for attempt in before.get("attempts", []))
    return Identity(before.get("run") if before else identity.new_id(), digest, known | {digest})


def extend(before: Mapping[str, Any], now: Mapping[str, Any], run: Identity, step: int, changed: Sequence[str]) -> dict:
    """config.json with one attempt more, which begins at `step`. `now` holds what the docstring above lists first."""
    past = before.get("attempts", [])
    if before and not past:
        past = [{"step": None, "config": identity.digest(before["config"]), "commit": before.get("commit", "-"),
                 "note": "from before attempts were recorded"}]  # fmt: skip
    attempt = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "step": step,
        "config": run.config,
        "commit": now["commit"],
        "sources": sources.digest(now["sources"]),
        "devices": now["devices"],
        "changed": list(changed),
        "edited": sources.edited(before.get("sources", {}), now["sources"]),
    }
    return {**now, "config_version": upgrade.VERSION, "run": run.run, "attempts": [*past, attempt]}


def few(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
