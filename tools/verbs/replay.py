"""`almanac replay RUN --step K`: repeats one step of a run, with checks on.

Training is repeated from the newest whole checkpoint before step K, bit for bit on the same kind of devices. The report has
the step's batch and metrics, each parameter's gradient and update, and the operation that made the first NaN or Inf (see
tools/doctor/nan_tracer.py). The run directory is not changed.
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
from tools.doctor import nan_tracer


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac replay", description="Repeats one step of a run, with checks on.",
        epilog="exit status: 0 the step is finite, 1 it is not",
    )  # fmt: skip
    local = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("run", type=local, metavar="RUN", help="a run directory")
    parser.add_argument("--step", type=int, required=True, metavar="K", help="the step, counted from 1")
    parser.add_argument(
        "--checkpoint", type=int, metavar="STEP", help="start there (0: at the seed; default: the nearest before it)"
    )
    parser.add_argument("--device", metavar="cpu|gpu|tpu", help="fail if there is none (default: JAX's choice)")
    args = parser.parse_args(argv)
    if reopen.load_config(Path(args.run)).get("deterministic"):
        determinism.switch_on()
    device.choose(args.device)
    report = replay(args.run, args.step, args.checkpoint)
    print("\n".join(map(visible, lines(report))))
    return 0 if report["finite"] else 1


def replay(folder: str | Path, step: int, checkpoint: int | None = None) -> dict:
    """Repeats step `step` (from 1) of the run in `folder`, starting at `checkpoint` (0: the seed; None: the nearest before it).

    Returns plain values:

    run, step, start      the run directory, the step, and the step of the checkpoint it started at
    devices, notes        the devices, and differences from the run's own machine
    finite                whether the step is finite
    first                 if not, the first non-finite loss, gradient or parameter, as the run names it; else None
    nan_trace             if not, the report on the operation that made it, as lines
    batch, metrics        the examples and ranges of the batch; the step's metrics
    parameters            one row per parameter: norms of it, its gradient and its update
    digest                of the state after the step
    logged                differences from the log, if the log has a line for every step; else None

    Raises UserError if the run has no such step or no whole checkpoint before it.
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
        state = _advance(e, mesh, state, start, step)
        (batch,) = e.train.on_device(mesh, step - 1, step)
        report = _examine(e, state, batch, step)
    report["batch"] = _batch(e, batch, step)
    report["logged"] = _logged(folder, e, step, report["metrics"])
    notes = determinism.differences(about.get("fingerprint", {}), determinism.fingerprint(mesh))
    if about.get("devices") != device.describe(mesh):
        notes.insert(0, f"the run used {about.get('devices')}: the last bits may differ here")
    return {
        "run": str(folder),
        "step": step,
        "start": start,
        "devices": device.describe(mesh),
        "notes": notes,
        **report,
    }


# To the step


def _devices(e: Experiment, about: Mapping) -> tuple[jax.sharding.Mesh, Sequence]:
    """The run's mesh and sharding rules if the devices are the same as its own; else a mesh of one device, without rules."""
    try:
        mesh = mesh_lib.make_mesh(e.cfg.mesh)
        if device.describe(mesh) == about.get("devices"):
            return mesh, e.rules
    except UserError:
        pass
    return mesh_lib.make_mesh(dict.fromkeys(e.cfg.mesh, 1), jax.devices()[:1]), ()


def _begin(
    folder: Path, e: Experiment, mesh: jax.sharding.Mesh, rules: Sequence, step: int, checkpoint: int | None
) -> tuple[Any, int]:
    """-> the state of the newest whole checkpoint before `step`, or of `checkpoint`; and its step."""
    if checkpoint is not None and not 0 <= checkpoint < step:
        raise UserError(f"--checkpoint={checkpoint}: for step {step}, one from 0 to {step - 1}")
    if checkpoint == 0:
        return state_lib.create(e.init_fn, e.tx, e.cfg.seed, mesh, rules, bool(e.ema)), 0
    target, _ = state_lib.abstract(e.init_fn, e.tx, mesh, rules, bool(e.ema))
    checkpoints = Checkpoints(folder / "checkpoints")
    saved, damaged = checkpoints.steps(), []
    try:
        for candidate in [s for s in reversed(saved) if s < step and checkpoint in (None, s)]:
            try:
                return checkpoints.restore_one(candidate, target)[0], candidate
            except integrity.Damaged as error:
                damaged.append(f"{candidate} is damaged ({error})")
    finally:
        checkpoints.close()
    available = f"the oldest of {folder} is {saved[0]}" if saved else f"{folder} has none"
    raise UserError(
        f"--step={step}: there is no whole checkpoint {'before it' if checkpoint is None else checkpoint}; "
        f"{'; '.join([available, *damaged])}. --checkpoint=0 starts at the seed"
    )


def _advance(e: Experiment, mesh: jax.sharding.Mesh, state: Any, start: int, step: int) -> Any:
    """Trains from step `start` to the one before `step`, as the run did."""
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
    """The run's own step, for the metrics and the state after it; then the same step again, for its intermediate values."""
    after, metrics = e.train_step(_copy(state), batch)
    (new, _), gradients = nan_tracer.named_values(e.train_step.fn, "gradient", state, batch)
    metrics = jax.device_get(metrics)
    first = _first(e, state, new, metrics, step)
    pairs = {k: v for k, v in metrics.items() if not k.endswith("bad")}
    source = _trace(e, state, batch, pairs) if first else None
    return {
        "finite": first is None,
        "first": first,
        "nan_trace": source.lines() if source else [],
        "metrics": metrics_lib.reduce([pairs]),
        "parameters": _parameters(state.params, new.params, gradients),
        "digest": digest(after),
    }


def digest(state: Any) -> str:
    """Eight hexadecimal digits of the checksums of a state's leaves: equal for equal bits, whatever the sharding."""
    sums = jax.tree_util.tree_leaves_with_path(jax.device_get(integrity.inspect(state)[0]))
    return (
        f"{zlib.crc32(json.dumps({mesh_lib.path_name(p): x.tolist() for p, x in sums}, sort_keys=True).encode()):08x}"
    )


def _first(e: Experiment, state: Any, new: Any, metrics: Mapping, step: int) -> str | None:
    """The first non-finite loss, gradient or parameter, as the run names it; None if there is none."""
    guard = Guard("stop", state.params, e.tx)
    guard.row(step, metrics)
    if guard.fault:
        return guard.fault.what
    finite = jax.tree_util.tree_leaves_with_path(integrity.inspect(new)[1])
    return next((f"the updated {mesh_lib.path_name(path)}" for path, ok in finite if not ok), None)


def _trace(e: Experiment, state: Any, batch: Mapping, pairs: Mapping) -> nan_tracer.NonFinite | None:
    """Traces a non-finite loss; if all are finite, a non-finite gradient norm; else the new state."""
    bad = [k for k, pair in pairs.items() if not np.isfinite(pair).all()]
    bad = [k for k in bad if not k.endswith("grad_norm")] or bad

    def non_finite_values(state: Any, batch: Mapping) -> Any:
        new, metrics = e.train_step.fn(state, batch)
        return [metrics[k] for k in bad] if bad else new

    return nan_tracer.trace(non_finite_values, state=state, batch=batch)


def _parameters(before: Any, after: Any, gradients: list[tuple[str, jax.Array]]) -> list[dict]:
    """One row per parameter: norms of it, its gradient (None if the step does not name it) and its update; non-finite counts."""
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
    """{parameter's path: its gradient}. With several updates in a step: the first that is not finite, else the last.

    Gradients are listed by parameter group, in the order of the group's parameters, once for each update of the group.
    """
    by_path: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name, value in gradients:
        group = [p for p in paths if p.startswith(name.removesuffix("gradient").lstrip("/"))]
        path = group[counts.get(name, 0) % len(group)]
        counts[name] = counts.get(name, 0) + 1
        if path not in by_path or np.isfinite(by_path[path]).all():
            by_path[path] = np.asarray(value, np.float64)
    return by_path


def _norm(x: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(np.sum(np.square(x))))


def _batch(e: Experiment, batch: Mapping, step: int) -> dict:
    """The batch's examples and their epochs, each array's dtype, shape and range, and the rows with a non-finite number."""
    examples, epochs = e.train.numbers(step - 1)
    arrays, rows = {}, set()
    for name, value in jax.device_get(dict(batch)).items():
        finite = np.isfinite(value) if jnp.issubdtype(value.dtype, jnp.inexact) else np.ones(value.shape, bool)
        bounds = (float(value[finite].min()), float(value[finite].max())) if finite.any() else (None, None)
        arrays[name] = {"dtype": str(value.dtype), "shape": value.shape, "min": bounds[0], "max": bounds[1]}
        rows |= set(np.argwhere(~finite)[:, 0].tolist())
    return {
        "examples": examples.tolist(), "epochs": epochs.tolist(), "arrays": arrays, "not finite": sorted(rows),
    }  # fmt: skip


def _logged(folder: Path, e: Experiment, step: int, ours: Mapping) -> dict | None:
    """{metric: (logged, here)} of the differences; None if the log has no line for this step alone."""
    path = run_files.inside(folder, "metrics.jsonl")
    if e.cfg.log_every != 1 or not path.exists():
        return None
    for row in run_files.read_rows(path, run_files.METRICS):
        if (row["step"], row["split"]) == (step, "train"):
            both = {k: (v, ours[k]) for k, v in row["values"].items() if k in ours and v is not None}
            return {k: pair for k, pair in both.items() if pair[0] != pair[1]}
    return None


# The printed report


def lines(report: Mapping) -> list[str]:
    """The report of `replay` as lines of text."""
    out = [f"{report['run']}  step {report['step']:,}, from checkpoint {report['start']:,}, on {report['devices']}"]
    out += [f"         {note}" for note in report["notes"]]
    out += [*_batch_lines(report["batch"]), *_metric_lines(report), *_parameter_lines(report), ""]
    if report["finite"]:
        out.append(f"no fault: step {report['step']:,} is finite")
    else:
        out.append(f"step {report['step']:,} is not finite: {report['first']}")
        trace = report["nan_trace"] or [
            "evaluated operation by operation it is finite: only the compiled step overflows"
        ]
        out += [f"  {line}" for line in trace]
    return [*out, f"digest of the state after it: {report['digest']}"]


def _batch_lines(batch: Mapping) -> list[str]:
    epochs = sorted(set(batch["epochs"]))
    out = [f"batch    examples {_some(batch['examples'])}; epoch {', '.join(map(str, epochs))}"]
    for name, a in batch["arrays"].items():
        bounds = "" if a["min"] is None else f", {a['min']:g} to {a['max']:g}"
        out.append(f"         {name} {a['dtype']}{list(a['shape'])}{bounds}")
    rows = [batch["examples"][row] for row in batch["not finite"]]
    return [*out, f"         NOT FINITE: examples {_some(rows)}"] if rows else out


def _some(numbers: Sequence[int]) -> str:
    """At most 16 numbers, and how many more there are.

    >>> _some([3, 5]), _some(range(18))[-15:]
    ('3, 5', ', 15 and 2 more')
    """
    return ", ".join(map(str, numbers[:16])) + (f" and {len(numbers) - 16} more" if len(numbers) > 16 else "")


def _metric_lines(report: Mapping) -> list[str]:
    words = [f"{k} {v:.6g}" for k, v in report["metrics"].items()]
    out = [f"{'' if i else 'metrics':9}{'  '.join(words[i : i + 4])}" for i in range(0, len(words), 4)]
    if report["logged"] is not None:
        pairs = report["logged"].items()
        differences = "; ".join(f"{k} {logged!r} in the log, {value!r} here" for k, (logged, value) in pairs)
        out.append(f"         {differences or 'equal to metrics.jsonl, bit for bit'}")
    return out


def _parameter_lines(report: Mapping) -> list[str]:
    rows = report["parameters"]
    width = max(len(row["path"]) for row in rows)
    out = [f"{'parameter':{width}} {'norm':>10} {'gradient':>10} {'update':>10}  not finite: gradient, updated"]
    for row in rows:
        numbers = " ".join(
            f"{'-' if row[k] is None else format(row[k], '.4g'):>10}" for k in ("norm", "gradient", "update")
        )
        bad = f"  {row.get('gradient not finite', 0):,}, {row['not finite']:,}"
        mark = "  <- first" if report["first"] and report["first"].endswith(f" {row['path']}") else ""
        out.append(f"{row['path']:{width}} {numbers}{bad if bad != '  0, 0' else ''}{mark}")
    return out
