"""Configs of earlier versions, in the words of today: the one way in for configs that a run directory or a log has kept.

A key that is renamed here keeps its value. A key of the model that is absent, or None (until version 1 a model's default), has
its first default. Another key that came later and is absent is None. No default of today's is put into an old run.
"""

from collections.abc import Mapping
from typing import Any

from research.core import first_defaults
from research.util.errors import UserError
from research.util.nested import plain

VERSION = 2  # what config.json says as config_version; a file that says nothing is of version 0
RENAMED: dict[int, dict[str, str]] = {1: {"init": "pretrained"}}  # version: {key or group as it was: as it is since}


def upgrade(config: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A config as version `version` wrote it -> the same one as VERSION writes it, in plain dicts.

    Raises UserError if `version` is newer than this code.
    """
    if version > VERSION:
        raise UserError(f"its config is of version {version}, this Almanac knows {VERSION}: use a newer one")
    out = plain(config)
    for each in range(version + 1, VERSION + 1):
        for old, new in RENAMED.get(each, {}).items():
            _rename(out, old.split("."), new.split("."))
    _fill_model(out, none_is_absent=version < 2)
    return out


def upgrade_key(key: str) -> str:
    """A dotted key as any earlier version had it -> as it is now: "init.weights" -> "pretrained.weights"."""
    for renamed in RENAMED.values():
        for old, new in renamed.items():
            if f"{key}.".startswith(f"{old}."):
                key = new + key[len(old) :]
    return key


def of_file(about: Mapping[str, Any]) -> dict[str, Any]:
    """The upgraded `config` of a config.json or of a log's run.json."""
    return upgrade(about["config"], about.get("config_version", 0))


def _fill_model(config: dict[str, Any], none_is_absent: bool) -> None:
    """Gives the model group every key of its model, with the key's first default if it is absent."""
    models = first_defaults.MODELS.get(str(config.get("name")).split("/")[0])
    group = config.get("model")
    if not models or not isinstance(group, dict):
        return
    name = group.get("name") or next(iter(models))
    if name in models:
        config["model"] = ({"name": name} if name else {}) | _filled(group, models[name], none_is_absent)


def _filled(group: dict[str, Any], defaults: Mapping[str, Any], none_is_absent: bool) -> dict[str, Any]:
    """`defaults` under the values of `group`, without those that are None if that means absent."""
    given = {key: value for key, value in group.items() if key != "name" and not (none_is_absent and value is None)}
    for key in given.keys() & defaults.keys():
        if isinstance(given[key], dict) and isinstance(defaults[key], dict):
            given[key] = _filled(given[key], defaults[key], none_is_absent)
    return {**plain(defaults), **given}


def _rename(config: dict[str, Any], old: list[str], new: list[str]) -> None:
    group: Any = config
    for part in old[:-1]:
        group = group.get(part) if isinstance(group, dict) else None
    if not isinstance(group, dict) or old[-1] not in group:
        return
    value, group = group.pop(old[-1]), config
    for part in new[:-1]:
        group = group.setdefault(part, {})
    group.setdefault(new[-1], value)
