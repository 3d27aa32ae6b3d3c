"""Configs: load, override, lock, track what is read.

A config is a module `experiments/<family>/configs/<name>.py` whose `get_config()` gives an ml-collections ConfigDict of
values. Overrides are typed by the value they replace. A key that does not exist, and a key that nothing read, are errors.
Durations may be said in steps, epochs or examples ("10 epochs"); they become steps once, after overrides.
"""

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.core import upgrade
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.nested import Counted, flatten, nest, plain, tuples, typed

EXPERIMENTS = "experiments"
RUN = dict(  # how a run is kept: the same keys in every family
    save_seconds=None,  # a checkpoint at the latest so long after the last one, too
    keep=3,  # newest checkpoints
    keep_every=None,  # steps whose checkpoints stay, too; a duration
    steps_per_launch=None,  # steps in one launch, their batches sent together; None is 1. For small models on a GPU
    not_finite="stop",  # an update with a NaN: stop before it; skip it; rollback to the last checkpoint and go on after it
    deterministic=False,  # kernels that sum in one order; refuse to go on where bits would differ
    pretrained=dict(
        weights=None, into=None, fresh=None, resize=None
    ),  # begins as others end: research/interop/weights.py
    lora=dict(  # fine-tuning by adapters: research/algorithms/lora.py
        rank=None,  # of the adapters that train in place of the parameters; None: all train
        alpha=None,  # adapters are scaled by alpha / rank, default 16
        targets=None,  # paths of the matrices that get adapters; default: those of a transformer's layers
        full=None,  # paths of what trains in full beside them, default pretrained.fresh
        rank_stabilised=None,  # True: scaled by alpha / sqrt(rank)
    ),
)
OPTIM = dict(  # the optimiser: research/core/optim.py
    name="adamw",  # one of optim.RULES or optim.WHOLE, or any constructor of Optax's, such as adabelief
    peak_lr=1e-3,
    end_lr=0.0,  # where linear and cosine end
    schedule="cosine",  # constant, linear, cosine, step, rsqrt
    warmup=0,  # linear from 0; a duration
    boundaries=(),  # step: durations at which the rate falls by `drop`
    drop=0.1,
    weight_decay=0.0,  # decoupled for adamw, lamb, lion, muon, adafactor; else L2, added to the gradient
    decay=r"(kernel|embedding)$",  # paths that decay
    freeze="",  # paths that do not train; "" trains all
    unfreeze=None,  # ((paths, a duration: from when they train), ...), the first that matches; the rest trains at once
    clip_norm=0.0,  # global norm; 0 is off
    accumulate=1,  # microbatches a step
    ema=0.0,  # decay of averaged weights; 0 is off
    b1=None,  # options of the rule; None is the rule's own default
    b2=None,
    eps=None,
    momentum=None,
    options={},  # of a constructor of Optax's, by its own names
)
SHARED = dict(  # the keys of every family, with defaults that a family may replace: see `family_defaults`
    seed=0,  # of initialisation, order of examples and all randomness
    optim=OPTIM,
    mesh=dict(data=-1, model=1),  # devices by axis; -1: all that are left
    rules="",  # how parameters lie on the mesh: "" on each device whole, a name of the model's sets, or ((regex, axes), ...)
    dtype="float32",  # compute; parameters are float32
    num_steps="10 epochs",
    log_every=50,
    eval_every="1 epoch",
    evals={},  # {split: dict(every=...)}, where a split has an interval of its own; None: by command alone
    save_every="1 epoch",
    **RUN,
    best=dict(metric=None, mode="min", patience=None),  # the checkpoint that is kept; patience: a duration
    reproduces=None,  # the published number: paper, metric, value, range, seeds
)
MODEL_NAME = "model.name"
_IS_DURATION = re.compile(r"(steps|every|warmup|boundaries|patience|unfreeze)$")  # keys whose values may be durations
OPEN = ("evals", "optim.options")  # groups that take any key
_DURATION = re.compile(r"(\d[\d_]*(?:\.\d+)?) ?(steps?|epochs?|examples?)")


def names() -> list[str]:
    """Every config as `family/name`, sorted."""
    spec = importlib.util.find_spec(EXPERIMENTS)
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    files = [f for root in roots for f in root.glob("*/configs/*.py")]
    return sorted(f"{f.parts[-3]}/{f.stem}" for f in files if f.stem not in ("__init__", "base"))


def families() -> set[str]:
    """The names of the families that have configs."""
    return {name.split("/")[0] for name in names()}


def load(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """`family/name`, or a run's `config.json`, plus `key=value` overrides -> a locked config."""
    cfg = from_json(Path(name)) if name.endswith(".json") else from_module(name)
    pairs = []
    for text in overrides:
        key, equals, value = text.removeprefix("--config.").partition("=")
        if not equals:
            raise UserError(f"override {run_files.shown(text)}: write --config.KEY=VALUE")
        pairs.append((key, value))
    for key, value in sorted(pairs, key=lambda pair: pair[0] != MODEL_NAME):  # first: it decides which keys there are
        override(cfg, key, value)
    return cfg.lock()


def family(name: str) -> str:
    """`family/name` -> `family`. Raises UserError if there is no such family."""
    owner = str(name).split("/")[0]
    if owner not in (known := families()):
        raise UserError(f"there is no family {owner!r}{nearest(owner, known)}")
    return owner


def defaults(family: str, **changes: Any) -> ConfigDict:
    """A family's defaults, with `changes` as its configs make them: `base(**changes)`."""
    return importlib.import_module(f"{EXPERIMENTS}.{family}.configs.base").base(**changes)


def defaults_of(cfg: Mapping | ConfigDict) -> ConfigDict:
    """The defaults of a config's family, for the model that the config names. Raises UserError if there is none of that name."""
    model = cfg.get("model")
    name = model.get("name") if isinstance(model, (Mapping, ConfigDict)) else None
    return defaults(family(cfg["name"]), **({"model": {"name": name}} if isinstance(name, str) else {}))


def from_module(name: str) -> ConfigDict:
    """The config `family/name`, never a file: for a name that a run directory gives."""
    if name not in names():
        owner = name.split("/")[0]
        known = [n for n in names() if n.startswith(f"{owner}/")] or names()
        raise UserError(f"there is no experiment {name!r}{nearest(name, known)} (see `almanac list`)")
    cfg = importlib.import_module(f"{EXPERIMENTS}.{name.replace('/', '.configs.')}").get_config()
    with cfg.unlocked():
        cfg.name = name
    return cfg


def from_json(path: Path) -> ConfigDict:
    """The config of a run's config.json. Raises UserError for a value of another type than today's config or family has."""
    try:
        about = run_files.read_object(path, run_files.CONFIG)
        cfg = ConfigDict(tuples(upgrade.of_file(about)), sort_keys=False)
        name = cfg.get("name")
        if name is not None and not isinstance(name, str):
            raise UserError(f"config key name = {run_files.shown(name)}: wanted str")
        _check_types(cfg, _known(cfg, name or ""))
    except (UserError, ValueError) as e:  # ValueError: keys that a ConfigDict does not take
        raise UserError(f"cannot read the config {path}: {e}") from None
    return cfg


def _known(cfg: ConfigDict, name: str) -> list[ConfigDict]:
    """The defaults of a config's family and today's config of its name, as far as they exist."""
    if name.split("/")[0] not in families():
        return []
    base = defaults_of(cfg)
    return [base, from_module(name)] if name in names() else [base]


def _check_types(cfg: ConfigDict, known: Sequence[ConfigDict], prefix: str = "") -> None:
    for key in cfg:
        value, likes = cfg[key], [one[key] for one in known if key in one]
        if not likes or any(like is None for like in likes):  # anything may stand where there is no default
            continue
        groups = [like for like in likes if isinstance(like, ConfigDict)]
        if groups and isinstance(value, ConfigDict):
            _check_types(value, groups, f"{prefix}{key}.")
        elif groups or not any(_fits(key, value, like) for like in likes):
            wanted = "a group" if groups else _wanted(key, likes[0])
            raise UserError(f"config key {prefix}{key} = {run_files.shown(value)}: wanted {wanted}")


def _fits(key: str, value: Any, like: Any) -> bool:
    """Whether `value` may stand where the default is `like`: its type, an int for a float, None for a text."""
    if value is None:
        return isinstance(like, str)
    if _IS_DURATION.search(key) and not isinstance(like, tuple):
        return type(value) is int or (isinstance(value, str) and _DURATION.fullmatch(value) is not None)
    if isinstance(like, float):
        return type(value) in (int, float)
    if key == "rules":  # a set's name, or the rules themselves
        return isinstance(value, (str, tuple))
    return type(value) is type(like)


def family_defaults(**own: Any) -> dict[str, Any]:
    """A family's own keys and values, and SHARED for the rest: the base of its configs."""
    groups = {key: value for key, value in own.items() if key not in SHARED}
    return {"seed": SHARED["seed"], **groups, **SHARED, **own}


def merge(base: Mapping, **groups: Any) -> ConfigDict:
    """A family's defaults and one experiment's changes -> a locked config. A key that the defaults lack is an error."""
    cfg = ConfigDict(dict(base), sort_keys=False).lock()
    _merge(cfg, {key if key in cfg else _now(key): value for key, value in groups.items()}, "")
    return cfg


def _merge(cfg: ConfigDict, changes: Mapping, prefix: str) -> None:
    for key, value in changes.items():
        if key in cfg and isinstance(cfg[key], ConfigDict) and isinstance(value, Mapping):
            _merge(cfg[key], value, f"{prefix}{key}.")
        elif key not in cfg and is_open(prefix):
            with cfg.unlocked():
                cfg[key] = ConfigDict(dict(value)) if isinstance(value, Mapping) else value
        elif key not in cfg:
            raise UserError(f"there is no config key {prefix + key!r}{nearest(key, cfg)}")
        elif isinstance(cfg[key], ConfigDict):
            raise UserError(f"config key {prefix + key!r} is a group, not {value!r}")
        else:
            _set(cfg, key, value)


def override(cfg: ConfigDict, key: str, text: str) -> None:
    """Sets `key` to `text`, read as the type of the value it replaces."""
    flat = flatten(cfg)
    key = _now(key) if key not in flat else key
    if key == MODEL_NAME and key in flat and cfg.get("name"):
        _change_model(cfg, text)
        return
    if key not in flat and is_open(key):
        _merge(cfg, nest(key, _parse(key, text, None)), "")
        return
    if key not in flat:
        if inside := [k for k in flat if k.startswith(f"{key}.")]:
            raise UserError(f"config key {key!r} is a group; set one of its keys: {', '.join(inside)}")
        raise UserError(f"there is no config key {run_files.shown(key)}{nearest(key[:100], flat)}")
    _set(cfg, key, None if text == "None" and _is_optional(cfg, key) else _parse(key, text, flat[key]))


def _is_optional(cfg: ConfigDict, key: str) -> bool:
    """Whether the default of a key is None, in the config's family or in SHARED, so that it may be set back to that."""
    if not isinstance(cfg.get("name"), str) or cfg.name.split("/")[0] not in families():
        return False
    return any(key in known and known[key] is None for known in (flatten(defaults_of(cfg)), flatten(SHARED)))


def _change_model(cfg: ConfigDict, name: str) -> None:
    """Gives the model group the keys of another model. What the config had changed stays if the other model has the key."""
    before = flatten(defaults_of(cfg).model)
    changes = {key: value for key, value in flatten(cfg.model).items() if key != "name" and value != before.get(key)}
    with cfg.unlocked():
        cfg.model = defaults(family(cfg.name), model={"name": name}).model
    keys = flatten(cfg.model)
    for key, value in changes.items():
        if key in keys:
            _set(cfg.model, key, value)
        else:
            print(f"almanac: model.{key} = {value!r} is left out: {name} has no such key", file=sys.stderr)


def is_open(key: str) -> bool:
    """Whether a key is in a group that accepts any key."""
    return any(key.startswith(f"{group}.") for group in OPEN)


def _now(key: str) -> str:
    """A key of an earlier version -> its key now; prints a line if they differ."""
    if (now := upgrade.upgrade_key(key)) != key:
        print(f"almanac: config key {key} is {now} now", file=sys.stderr)
    return now


def _set(cfg: ConfigDict, key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        cfg = cfg[group]
    if isinstance(cfg[last], float) and isinstance(value, int):
        value = float(value)
    # `ignore_type` visits every group within, which is slow.
    with contextlib.nullcontext() if type(value) is type(cfg[last]) else cfg.ignore_type():
        cfg[last] = value


def _parse(key: str, text: str, old: Any) -> Any:
    may_last = _IS_DURATION.search(key) and not isinstance(old, tuple)
    if may_last and _DURATION.fullmatch(text):
        return text
    try:
        return typed(text, 0 if may_last and old is not None else old)
    except (ValueError, OverflowError):
        wanted = f"wanted {_wanted(key, old)} (it is {run_files.shown(old)})"
        raise UserError(f"config key {key} = {run_files.shown(text)}: {wanted}") from None


def _wanted(key: str, like: Any) -> str:
    """The type of a value that stands where `like` does, in words."""
    may_last = _IS_DURATION.search(key) and like is not None and not isinstance(like, tuple)
    return 'int, or a duration such as "3 epochs"' if may_last else type(like).__name__


class TrackedConfig(Counted):
    """A read-only config that records which keys were read, as attributes or items; its groups do likewise."""

    __slots__ = ()

    def in_steps(self, epoch: int, batch_size: float) -> "TrackedConfig":
        """The same config with every duration in steps; `epoch` and `batch_size` are in examples."""
        steps_per = {"step": 1.0, "epoch": epoch / batch_size, "example": 1 / batch_size}

        def one(value: Any, key: str = "") -> Any:
            if isinstance(value, dict):
                return {k: one(v, k) for k, v in value.items()}
            if not _IS_DURATION.search(key):
                return value
            if isinstance(value, (list, tuple)):
                return tuple(one(v, key) for v in value)
            if isinstance(value, str) and (m := _DURATION.fullmatch(value)):
                steps = float(m[1].replace("_", "")) * steps_per[m[2].rstrip("s")]
                return max(1, round(steps)) if steps else 0
            return value

        return TrackedConfig(one(self.to_dict()), self._read)


def track_reads(cfg: Mapping | ConfigDict) -> TrackedConfig:
    """The config as a TrackedConfig; one that is tracked already is returned as it is."""
    return cfg if isinstance(cfg, TrackedConfig) else TrackedConfig(plain(cfg))


def check_read(cfg: TrackedConfig) -> None:
    if keys := cfg.unread():
        value = flatten(cfg.to_dict())[keys[0]]
        raise UserError(f"config key {keys[0]} = {value!r} is read by nothing in this experiment; remove it")
