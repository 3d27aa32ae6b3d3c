"""`almanac replay RUN --step K`: one step of a run again, with checks on.

From the newest whole checkpoint before it the run's own steps lead up to step K, to the bit on devices like its own. Of that
step are told: its batch, its metrics, each parameter's gradient and update, and where the first NaN or Inf was made (see
origins.py). Nothing in the run's directory is changed.
"""

import argparse
import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.cluster import determinism, device
from research.core import mesh as mesh_lib
from research.core import metrics as metrics_lib
from research.core import state as state_lib
from research.core.experiment import Experiment
from research.core.guard import Guard
from research.run import integrity, object_store, reopen
from research.run.checkpoint import Checkpoints
from research.util import run_files
from research.util.errors import UserError
from research.util.escape import visible
from tools.doctor import origins


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac replay", description="Runs one step of a run again, with checks on.",
        epilog="exit status: 0 the step is finite, 1 it is not",
    )  # fmt: skip
    local = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("run", type=local, metavar="RUN", help="a run directory")
    parser.add_argument("--step", type=int, required=True, metavar="K", help="the step, counted from 1")
    parser.add_argument(
        "--checkpoint", type=int, metavar="STEP", help="begin there (0: from the seed; default: the nearest)"
    )
    parser.add_argument("--device", metavar="cpu|gpu|tpu", help="fail where it is absent (default: what JAX finds)")
    args = parser.parse_args(argv)
    if reopen.load_config(Path(args.run)).get("deterministic"):
        determinism.switch_on()
    device.choose(args.device)
    found = replay(args.run, args.step, args.checkpoint)
    print("\n".join(map(visible, lines(found))))
    return 0 if found["finite"] else 1


def replay(folder: str | Path, step: int, checkpoint: int | None = None) -> dict:
    """Step number `step` (from 1) of the run in `folder`, begun at a checkpoint (0: the seed), as plain values.

    "finite", and if it is not, "first" (what the run would name) and "origin" (lines on what made it); "batch", "metrics",
    "parameters" (rows), "digest" of the state after it, "start", "devices", "notes", and "logged", how the log differs where
    it has the step alone.
    """
    folder = Path(folder)
    cfg = reopen.load_config(folder)
    device.use_compilation_cache()
    e = reopen.build(cfg.name, cfg)
    if not 1 <= step <= e.cfg.num_steps:
        raise UserError(f"--step={step}: {folder} has the steps 1 to {e.cfg.num_steps:,}")
    about = run_files.read_object(run_files.inside(folder, "config.json"), run_files.CONFIG)
    mesh, rules = _devices(e, about)
    with jax.set_mesh(mesh):
        state, start = _begin(folder, e, mesh, rules, step, checkpoint)
        state = _go_on(e, mesh, state, start, step)
        (batch,) = e.train.on_device(mesh, step - 1, step)
        found = _examine(e, state, batch, step)
    found["batch"] = _batch(e, batch, step)
    found["logged"] = _logged(folder, e, step, found["metrics"])
    notes = determinism.differences(about.get("fingerprint", {}), determinism.fingerprint(mesh))
    if about.get("devices") != device.describe(mesh):
        notes.insert(0, f"it ran on {about.get('devices')}: here the last bits may differ")
    return {"run": str(folder), "step": step, "start": start, "devices": device.describe(mesh), "notes": notes, **found}


# To the step


def _devices(e: Experiment, about: Mapping) -> tuple[jax.sharding.Mesh, Sequence]:
    """The run's mesh and rules, where there are such devices; else one device."""
    try:
        mesh = mesh_lib.make_mesh(e.cfg.mesh)
        if device.describe(mesh) == about.get("devices"):
            return mesh, e.rules
    except UserError:
        pass
    return mesh_lib.make_mesh(dict.fromkeys(e.cfg.mesh, 1), jax.devices()[:1]), ()


def _begin(
    folder: Path, e: Experiment, mesh: jax.sharding.Mesh, rules: Sequence, step: int, wanted: int | None
) -> tuple[Any, int]:
    """The state of the newest whole checkpoint before `step` (or of `wanted`) -> state, its step."""
    if wanted is not None and not 0 <= wanted < step:
        raise UserError(f"--checkpoint={wanted}: step {step} begins at one from 0 to {step - 1}")
    if wanted == 0:
        return state_lib.create(e.init_fn, e.tx, e.cfg.seed, mesh, rules, bool(e.ema)), 0
    target, _ = state_lib.abstract(e.init_fn, e.tx, mesh, rules, bool(e.ema))
    place = Checkpoints(folder / "checkpoints")
    kept, damaged = place.steps(), []
    try:
        for candidate in [s for s in reversed(kept) if s < step and wanted in (None, s)]:
            try:
                return place.restore_one(candidate, target)[0], candidate
            except integrity.Damaged as why:
                damaged.append(f"{candidate} is damaged ({why})")
    finally:
        place.close()
    have = f"the oldest of {folder} is {kept[0]}" if kept else f"{folder} has none"
    raise UserError(
        f"--step={step}: there is no whole checkpoint {'before it' if wanted is None else wanted}; "
        f"{'; '.join([have, *damaged])}. --checkpoint=0 begins at the seed"
    )


def _go_on(e: Experiment, mesh: jax.sharding.Mesh, state: Any, start: int, step: int) -> Any:
    """The run's own steps from `start` to the one before `step`."""
    rolls_back = e.cfg.not_finite == "rollback"
    first = _copy(state) if rolls_back else None
    for done, batch in enumerate(e.train.on_device(mesh, start, step - 1), start + 1):
        state, metrics = e.train_step(state, batch)
        if rolls_back and any(int(v) >= 0 for k, v in metrics.items() if k.endswith("bad")):
            state = _copy(first).replace(step=jax.device_put(np.int32(done), state.step.sharding))
    if int(state.step) != step - 1:
        raise UserError(f"--step={step}: step {int(state.step) + 1} is not finite and ended the run; replay that one")
    return state


def _copy(state: Any) -> Any:
    return jax.tree.map(jnp.copy, state)


# The step


def _examine(e: Experiment, state: Any, batch: Mapping, step: int) -> dict:
    """The step as the run does it, for its metrics and the state after it; then again for what it computes inside."""
    after, metrics = e.train_step(_copy(state), batch)
    (new, _), gradients = origins.named(e.train_step.fn, "gradient", state, batch)
    metrics = jax.device_get(metrics)
    first = _first(e, state, new, metrics, step)
    pairs = {k: v for k, v in metrics.items() if not k.endswith("bad")}
    origin = _origin(e, state, batch, pairs) if first else None
    return {
        "finite": first is None,
        "first": first,
        "origin": origin.lines() if origin else [],
        "metrics": metrics_lib.reduce([pairs]),
        "parameters": _parameters(state.params, new.params, gradients),
        "digest": digest(after),
    }


def digest(state: Any) -> str:
    """Eight hexadecimal digits of the checksums of a state's leaves: the same for the same bits, however it is sharded."""
    sums = jax.tree_util.tree_leaves_with_path(jax.device_get(integrity.inspect(state)[0]))
    return (
        f"{zlib.crc32(json.dumps({mesh_lib.path_name(p): x.tolist() for p, x in sums}, sort_keys=True).encode()):08x}"
    )


def _first(e: Experiment, state: Any, new: Any, metrics: Mapping, step: int) -> str | None:
    guard = Guard("stop", state.params, e.tx)
    guard.row(step, metrics)
    if guard.fault:
        return guard.fault.what
    finite = jax.tree_util.tree_leaves_with_path(integrity.inspect(new)[1])
    return next((f"the updated {mesh_lib.path_name(path)}" for path, ok in finite if not ok), None)


def _origin(e: Experiment, state: Any, batch: Mapping, pairs: Mapping) -> origins.Origin | None:
    """Of the losses, if one of them is not finite; else of the gradients' norms; else of the new state."""
    bad = [k for k, pair in pairs.items() if not np.isfinite(pair).all()]
    bad = [k for k in bad if not k.endswith("grad_norm")] or bad

    def spoilt(state: Any, batch: Mapping) -> Any:
        new, metrics = e.train_step.fn(state, batch)
        return [metrics[k] for k in bad] if bad else new

    return origins.find(spoilt, state=state, batch=batch)


def _parameters(before: Any, after: Any, gradients: list[tuple[str, jax.Array]]) -> list[dict]:
    """A row a parameter: norms of it, of its gradient (where the step names it) and of its update; what is not finite."""
    paths = [(mesh_lib.path_name(p), x) for p, x in jax.tree_util.tree_leaves_with_path(before)]
    by_path = _by_path([name for name, _ in paths], gradients)
    rows = []
    for (path, old), new in zip(paths, jax.tree.leaves(after), strict=True):
        old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
        gradient = by_path.get(path)
        row = {"path": path, "norm": _norm(old), "gradient": None, "update": _norm(new - old)}
        row["not finite"] = int((~np.isfinite(new)).sum())
        if gradient is not None:
            row |= {"gradient": _norm(gradient), "gradient not finite": int((~np.isfinite(gradient)).sum())}
        rows.append(row)
    return rows


def _by_path(paths: Sequence[str], gradients: list[tuple[str, jax.Array]]) -> dict[str, np.ndarray]:
    """Gradients come group by group in the order of the group's parameters, and again with each update of it.

    Kept is the first update that has one which is not finite, else the last.
    """
    found: dict[str, np.ndarray] = {}
    turn: dict[str, int] = {}
    for name, value in gradients:
        own = [p for p in paths if p.startswith(name.removesuffix("gradient").lstrip("/"))]
        path = own[turn.get(name, 0) % len(own)]
        turn[name] = turn.get(name, 0) + 1
        if path not in found or np.isfinite(found[path]).all():
            found[path] = np.asarray(value, np.float64)
    return found


def _norm(x: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(np.sum(np.square(x))))


def _batch(e: Experiment, batch: Mapping, step: int) -> dict:
    """Which examples, of which epochs, and each array's range; rows with a number that is not finite."""
    examples, epochs = e.train.numbers(step - 1)
    arrays, rows = {}, set()
    for name, value in jax.device_get(dict(batch)).items():
        good = np.isfinite(value) if jnp.issubdtype(value.dtype, jnp.inexact) else np.ones(value.shape, bool)
        ends = (float(value[good].min()), float(value[good].max())) if good.any() else (None, None)
        arrays[name] = {"dtype": str(value.dtype), "shape": value.shape, "min": ends[0], "max": ends[1]}
        rows |= set(np.argwhere(~good)[:, 0].tolist())
    return {
        "examples": examples.tolist(), "epochs": epochs.tolist(), "arrays": arrays, "not finite": sorted(rows),
    }  # fmt: skip


def _logged(folder: Path, e: Experiment, step: int, ours: Mapping) -> dict | None:
    """{metric: (in the log, here)} of what differs, where the log has this step alone; else None."""
    path = run_files.inside(folder, "metrics.jsonl")
    if e.cfg.log_every != 1 or not path.exists():
        return None
    for row in run_files.read_rows(path, run_files.METRICS):
        if (row["step"], row["split"]) == (step, "train"):
            both = {k: (v, ours[k]) for k, v in row["values"].items() if k in ours and v is not None}
            return {k: pair for k, pair in both.items() if pair[0] != pair[1]}
    return None


# For a person


def lines(found: Mapping) -> list[str]:
    """The report, as text."""
    out = [f"{found['run']}  step {found['step']:,}, from checkpoint {found['start']:,}, on {found['devices']}"]
    out += [f"         {note}" for note in found["notes"]]
    out += [*_batch_lines(found["batch"]), *_metric_lines(found), *_parameter_lines(found), ""]
    if found["finite"]:
        out.append(f"nothing is wrong: step {found['step']:,} is finite")
    else:
        out.append(f"step {found['step']:,} is not finite: {found['first']}")
        seen = found["origin"] or ["operation by operation everything is finite: only the compiled step overflows"]
        out += [f"  {line}" for line in seen]
    return [*out, f"state after it: {found['digest']}"]


def _batch_lines(batch: Mapping) -> list[str]:
    epochs = sorted(set(batch["epochs"]))
    out = [f"batch    examples {_some(batch['examples'])}; epoch {', '.join(map(str, epochs))}"]
    for name, a in batch["arrays"].items():
        ends = "" if a["min"] is None else f", {a['min']:g} to {a['max']:g}"
        out.append(f"         {name} {a['dtype']}{list(a['shape'])}{ends}")
    rows = [batch["examples"][row] for row in batch["not finite"]]
    return [*out, f"         NOT FINITE: examples {_some(rows)}"] if rows else out


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:16])) + (f" and {len(numbers) - 16} more" if len(numbers) > 16 else "")


def _metric_lines(found: Mapping) -> list[str]:
    words = [f"{k} {v:.6g}" for k, v in found["metrics"].items()]
    out = [f"{'' if i else 'metrics':9}{'  '.join(words[i : i + 4])}" for i in range(0, len(words), 4)]
    if found["logged"] is not None:
        wrong = "; ".join(f"{k} {theirs!r} in the log, {ours!r} here" for k, (theirs, ours) in found["logged"].items())
        out.append(f"         {wrong or 'as in metrics.jsonl, to the bit'}")
    return out


def _parameter_lines(found: Mapping) -> list[str]:
    rows = found["parameters"]
    width = max(len(row["path"]) for row in rows)
    out = [f"{'parameter':{width}} {'norm':>10} {'gradient':>10} {'update':>10}  not finite: gradient, updated"]
    for row in rows:
        numbers = " ".join(
            f"{'-' if row[k] is None else format(row[k], '.4g'):>10}" for k in ("norm", "gradient", "update")
        )
        bad = f"  {row.get('gradient not finite', 0):,}, {row['not finite']:,}"
        mark = "  <- first" if found["first"] and found["first"].endswith(f" {row['path']}") else ""
        out.append(f"{row['path']:{width}} {numbers}{bad if bad != '  0, 0' else ''}{mark}")
    return out
