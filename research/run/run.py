"""A run directory: log, checkpoints, evaluation, preemption, early stopping, guard against NaN.

    config.json      the locked config, versions, commit, devices; the run's id, its sources and the history of its attempts
    metrics.jsonl    {"step", "split", "values"}: a pure function of config and seed, bit for bit
    timing.jsonl     {"step", "seconds", "examples_per_s", ...}: what a clock says
    checkpoints/     the newest `keep` and each `keep_every`;  best/  the best by `best.metric`
    samples/ report.json report.html curves.png, TensorBoard events;  not_finite.json, where a step was not

The device never waits for the host: values are read an interval late, or when something needs them (evaluation, a
checkpoint, the end), and the host is at most `device.MAX_STEPS_IN_FLIGHT` steps before it.
"""

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.cluster import cpu, determinism, device, membership
from research.core import evaluation, flops, metrics
from research.core import mesh as mesh_lib
from research.core import state as state_lib
from research.core.config import TrackedConfig, check_read
from research.core.experiment import Evaluated, Experiment
from research.core.guard import Guard
from research.core.launches import bounds
from research.run import attempts
from research.run.checkpoint import Checkpoints
from research.run.directory import Directory
from research.run.metric_log import Clock, RunLogger
from research.util import run_files
from research.util.errors import UserError, nearest
from research.util.files import read_json, write_errors, write_json

PREEMPTED = 75  # exit status: saved, start again to go on


class Run:
    """`with Run(cfg, workdir) as run:` the mechanics around a visible loop."""

    def __init__(
        self, cfg: TrackedConfig, workdir: str | Path, resume: str = "auto", profile: tuple[int, int] | None = None
    ):
        self.cfg = cfg
        cfg.mark("name", "reproduces")  # read by the tools
        self._best_metric = tuple(cfg.best[k] for k in ("metric", "mode", "patience"))
        self._every = {k: cfg[f"{k}_every"] for k in ("log", "eval", "save")}
        self._save_seconds, self._policy = cfg.save_seconds, cfg.not_finite
        self.num_steps, self._seed, self._per_launch = cfg.num_steps, cfg.seed, cfg.get("steps_per_launch") or 1
        for key in ("num_steps", "keep", "keep_every", "save_seconds", "steps_per_launch"):
            if not isinstance(cfg.get(key, 1), int | float) or cfg.get(key, 1) < 1:
                raise UserError(f"{key} = {cfg[key]!r}: at least 1")
        if self.num_steps >= 2**31:
            raise UserError(f"num_steps = {self.num_steps}: below 2**31, steps are counted by i32")
        if not isinstance(self._per_launch, int):
            raise UserError(f"steps_per_launch = {self._per_launch}: a whole number")
        cpu.tune()  # in a notebook nothing has
        if cfg.deterministic:
            determinism.switch_on()
        self.mesh = mesh_lib.make_mesh(cfg.mesh)
        self._prints = determinism.fingerprint(self.mesh)
        self.writes = jax.process_index() == 0
        self._directory = Directory(workdir, cfg.to_dict(), resume, self._prints, self.writes)
        self.dir = self._directory.folder
        self._profiler = device.Profiler(self.dir / "profile", profile)
        run = self._directory.run if self.writes else None  # one process compares for all
        self._checkpoints = Checkpoints(self.dir / "checkpoints", cfg.keep, cfg.keep_every, run)
        self._best = Checkpoints(self.dir / "best", 1, run=run)

        self.done = 0  # updates done; during the loop's body, the one under way counts
        self._rows: list[tuple[int, Mapping]] = []  # training metrics not yet averaged into the log
        self._unread: list[tuple[int, Mapping]] = []  # of these, still on the device
        self._logger: Any = None  # opened when the state is there
        self._tracker: dict[str, Any] = {"value": None, "step": 0, "stopped": False}
        self._report: dict[str, Any] = {"lines": [], "baselines": {}}
        self._preempted = self._saved = self._turned = False
        self._elapsed = 0.0  # seconds of all lives at the last save
        self._seek: int | None = None  # the step to go on from, after a roll-back

    def __enter__(self) -> "Run":
        with contextlib.ExitStack() as stack:  # undone in the opposite order
            stack.push(self._leave)
            for part in (self._best, self._checkpoints, self._profiler):
                stack.callback(part.close)
            stack.callback(lambda: self._logger and self._logger.close())
            with contextlib.suppress(ValueError):  # Python allows a handler in the main thread alone
                old = signal.signal(signal.SIGTERM, self._on_sigterm)
                stack.callback(signal.signal, signal.SIGTERM, old or signal.SIG_DFL)
            stack.enter_context(jax.set_mesh(self.mesh))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._exit.__exit__(*error)

    def _leave(self, kind, error, traceback) -> None:
        self._directory.close(error, mistake=isinstance(error, UserError) and not self._turned)

    def _on_sigterm(self, *_: Any) -> None:
        self._preempted = jax.process_count() == 1
        membership.preempt()

    # State

    def start(self, e: Experiment, trains: bool = True) -> state_lib.TrainState:
        """A TrainState, born sharded or restored from this directory. Without `trains`, no step follows."""
        self._check(e)
        self._experiment = e
        self._target = target = state_lib.abstract(e.init_fn, e.tx, self.mesh, e.rules, bool(e.ema))[0]
        self._guard = Guard(self._policy, target.params, e.tx)
        self.parameters = state_lib.count(target.params)
        self._units = e.train.units
        self._flops = flops.share(lambda: e.train_step.trace(target, e.train.spec), self.mesh)
        if fresh := not self._checkpoints.steps():
            state = state_lib.create(
                e.init_fn, e.tx, self._seed, self.mesh, e.rules, bool(e.ema), target=target,
                meanwhile=lambda: self._compile(e, target, trains),
            )  # fmt: skip
        else:
            state, meta = self._checkpoints.restore(target)
            self.done = int(state.step)
            self._tracker, self._elapsed, self._report = (meta[k] for k in ("tracker", "elapsed", "report"))
            self._rows = [(step, row) for step, row in meta["rows"]]
        self._profiler.check(self.num_steps - self.done)
        self._open()
        return e.load_pretrained(state, self) if fresh and e.load_pretrained else state

    def _compile(self, e: Experiment, target: state_lib.TrainState, trains: bool) -> None:
        """Compiles the step, whose first call finds the program. Not where several hosts have to do it in one order."""
        if trains and jax.process_count() == 1 and self._per_launch == 1:
            rows = mesh_lib.batch_sharding(self.mesh)
            batch = {k: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=rows) for k, s in e.train.spec.items()}
            e.train_step.lower(target, batch).compile()

    def _check(self, e: Experiment) -> None:
        """What would else be found out in the middle of the run, or never."""
        mesh_lib.host_rows(self.mesh, e.train.batch_size)
        for sweep in e.evals.values():
            mesh_lib.host_rows(self.mesh, sweep.batch_size, "data.eval_batch_size")
        if self._per_launch > 1 and (kinds := len(e.train.shapes)) > 1:
            raise UserError(
                f"steps_per_launch = {self._per_launch}: the batches of this data have {kinds} shapes, and only batches of one "
                "shape can share a launch; set it to None"
            )
        metric, mode, patience = self._best_metric
        if metric and (split := metric.split("/")[0]) not in e.splits:
            raise UserError(f"best.metric = {metric!r}: there is no such split in training{nearest(split, e.splits)}")
        if mode not in ("min", "max"):
            raise UserError(f"best.mode = {mode!r}: 'min' or 'max'")
        if patience and not metric:
            raise UserError(f"best.patience = {patience} needs a best.metric")

    def _open(self) -> None:
        over, config = self._tracker["stopped"] or self.done >= self.num_steps, self.cfg.to_dict()
        self._over = over  # there is no step left for this start
        about = {"name": config.get("name"), "parameters": self.parameters, "devices": device.describe(self.mesh)}
        with write_errors(self.dir):
            if self.writes and not over:  # what made a finished run stays written
                about |= {"config": config, "versions": device.versions(), "commit": device.commit()}
                about |= {"fingerprint": self._prints, "sources": self._directory.sources}
                before, run, changed = self._directory.before, self._directory.run, self._directory.changed
                write_json(self.dir / "config.json", attempts.extend(before, about, run, self.done, changed))
            self._logger = RunLogger(self.dir, self.done, self.num_steps, self.writes)
        words = f"{about['name'] or self.dir.name}  {self.parameters:,} parameters  {about['devices']}"
        self._logger.say(f"{words}  {self.dir}")
        if self._per_launch > 1 and self.mesh.devices.flat[0].platform == "cpu":
            self._logger.say(
                f"steps_per_launch = {self._per_launch} is for GPUs: a CPU gains little, and is many times slower at convolutions"
            )
        if over:
            kept = "; config.json still says what made it" if self._directory.changed else ""
            self._logger.say(f"finished at step {self.done:,}: nothing is left to do{kept}")
        elif self.done:
            self._logger.say(f"resumed at step {self.done:,} of {self.num_steps:,}")
            self._say_what_changed()

    def _say_what_changed(self) -> None:
        """A resume with another config or other code is not the run that was begun; the history keeps both."""
        directory = self._directory
        if directory.changed:
            self._logger.say(f"the config has changed since: {attempts.few(directory.changed)}")
        if directory.edited:
            self._logger.say(f"the code has changed since: {attempts.few(directory.edited)}")
        if "sources" not in directory.before:
            self._logger.say("this run was begun before code was recorded: whether that has changed is not known")

    # Loop

    def steps(self, stream: Any) -> Iterator[tuple[int, dict]]:
        """(updates done, batch) from the state's step to `num_steps`, or until early stopping.

        With `steps_per_launch` above 1 the batch is a `step.Launch` of that many steps, fewer before a step at which
        something is due.
        """
        self._clock, self._stream = Clock(self._elapsed, self.done), stream
        while self.done < self.num_steps and not self._tracker["stopped"]:
            yield from self._steps(stream, self.done)
            if self._seek is None:
                break
            self.done, self._seek = self._seek, None
        self._logger.finish_bar()

    def _steps(self, stream: Any, first: int) -> Iterator[tuple[int, dict]]:
        for step, end, batch in self._launches(stream, first):
            self._profiler.at(step - first)
            self.done, self._saved = end, False
            membership.beat()
            yield step, batch
            if not self._turned:
                check_read(self.cfg)  # all that is read has been
                self._turned = True
                self._logger.say(device.cache_report())
            if self._tracker["stopped"] or self._seek is not None:
                return

    def _launches(self, stream: Any, first: int) -> Iterator[tuple[int, int, dict]]:
        """(first step, the one after the last, batch or batches) of each launch."""
        if self._per_launch == 1:
            for step, batch in enumerate(stream.on_device(self.mesh, first, self.num_steps), first):
                yield step, step + 1, batch
            return
        cuts = self._profiler.cuts(first)
        ends = bounds(first, self.num_steps, self._per_launch, list(self._every.values()), cuts)
        yield from zip(ends, ends[1:], stream.launches(self.mesh, ends), strict=False)

    def due(self, every: int) -> bool:
        """Whether the step under way ends an interval of `every` steps, or is the last. 0 is never but the last."""
        return self.done >= self.num_steps or (every > 0 and self.done % every == 0)

    def log(self, split: str, values: Mapping) -> None:
        """Training pairs are kept on the device and averaged over `log_every` steps; other splits' values are written."""
        if split != "train":
            self._flush()
            if self._guard.fault:  # measured on a state that `save` will not go on with
                return
            self._logger.write(self.done, split, values)
            self._track(split, values)
            return
        self._unread.append((self.done, values))
        device.throttle(self._unread)
        if self.due(self._every["log"]):
            self._clock.mark(self.done)
            # The interval before this one: by now the device is past it.
            self._read(self.done - self._every["log"])
            self._write_train()

    def _read(self, until: int | None = None) -> None:
        while self._unread and (until is None or self._unread[0][0] <= until) and not self._guard.fault:
            last, values = self._unread.pop(0)
            for step, value in self._by_step(last, jax.device_get(values)):
                row = self._guard.row(step, value)
                if self._policy == "rollback" or not self._guard.fault:
                    self._rows.append((step, row))
                if self._guard.fault:
                    break

    def _by_step(self, last: int, values: Mapping) -> list[tuple[int, Mapping]]:
        """A launch's metrics on the host -> (step, its metrics) of each of its steps."""
        if self._per_launch == 1:
            return [(last, values)]
        count = len(jax.tree.leaves(values)[0])
        return [(last - count + 1 + i, jax.tree.map(lambda x, i=i: x[i], values)) for i in range(count)]

    def _write_train(self) -> None:
        """Writes every whole interval whose rows have been read."""
        every = self._every["log"] or self.num_steps
        while self._rows:
            end = min(-(-self._rows[0][0] // every) * every, self.num_steps)
            if self._rows[-1][0] < end:
                return
            inside = [row for step, row in self._rows if step <= end]
            self._rows = self._rows[len(inside) :]
            values = metrics.reduce(inside)
            self._logger.write(end, "train", values)
            self._logger.time(end, self._clock.rates(end, self._units, self._flops), values)

    def _flush(self) -> None:
        self._read()
        self._write_train()

    def evaluate(self, state: Any) -> Iterator[tuple[str, Mapping[str, float]]]:
        """(split, its metrics) of each split, if evaluation is due at this step."""
        if self.due(self._every["eval"]):
            for split in self._experiment.splits:
                yield split, self.measure(state, split)

    def measure(self, state: Any, split: str) -> Mapping[str, float]:
        """The metrics of a split; what its evaluator says besides is written under samples/ and noted."""
        e = self._experiment
        return evaluation.measure(
            e, state, split, self.dir, self.mesh, self.on_one_device, membership.beat, self._keep
        ).values

    def _keep(self, found: Evaluated) -> None:
        for line in found.lines:
            self.note(line)
        for name, write in found.files.items():
            self.sample(name, write)

    def _track(self, split: str, values: Mapping) -> None:
        metric, mode, patience = self._best_metric
        name = metric.removeprefix(f"{split}/") if metric else None
        if not metric or not metric.startswith(f"{split}/"):
            return
        if name not in values:
            raise UserError(f"best.metric = {metric!r} is not measured; there are {split}/{f', {split}/'.join(values)}")
        value, best = values[name], self._tracker["value"]
        if not math.isnan(value) and (best is None or (value < best if mode == "min" else value > best)):
            self._tracker |= {"value": value, "step": self.done}
        elif patience and best is not None and self.done - self._tracker["step"] >= patience:
            self._tracker["stopped"] = True
            self._logger.say(
                f"stopped at step {self.done:,}: {metric} has not improved on {best:.4f} for {patience:,} steps"
            )

    def save(self, state: Any) -> Any:
        """Saves when due, at the end, when early stopping ends the run and when preempted (then leaves with status 75).

        Returns the state to go on with: another one after a roll-back.
        """
        self._preempted |= membership.ends_at(self.done)  # several hosts: with one step, after a SIGTERM to any of them
        ends = self._preempted or self._tracker["stopped"]
        if self._tracker["value"] is not None and self._tracker["step"] == self.done:
            self._best.save(self.done, state, {"tracker": self._tracker})
        due = not self._saved and (ends or self.due(self._every["save"]) or self._late())
        if due:
            self._flush()
        if self._guard.fault:
            return self._recover(state)
        if due:
            self._write(state)
            self._saved = True
        if due and self._preempted:
            self._checkpoints.wait()
            self._logger.say(f"preempted: saved step {self.done:,}; the same command goes on")
            raise SystemExit(PREEMPTED)
        return state

    def _late(self) -> bool:
        """Whether `save_seconds` have passed. Several hosts go by the first one's clock, and ask it where they log."""
        several = jax.process_count() > 1
        if not self._save_seconds or (several and not self.due(self._every["log"])):
            return False
        late = self._clock.elapsed() - self._elapsed >= self._save_seconds
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(late))) if several else late

    def _write(self, state: Any) -> None:
        membership.beat()
        self._directory.check()
        self._logger.flush()
        self._best.wait()  # a checkpoint promises that the best before it is whole, too
        self._elapsed = self._clock.elapsed()
        meta = {"rows": self._rows, "tracker": self._tracker, "elapsed": self._elapsed, "report": self._report}
        self._checkpoints.save(self.done, state, meta)
        self._directory.push(self.dir / "checkpoints" / str(self.done))

    def _recover(self, state: Any) -> Any:
        """Rolls back, or keeps the state before the step that was not finite and ends the run."""
        (bad, what), self._guard.fault = self._guard.fault, None
        self._turned, self._unread = True, []  # what has been written tells of the step: it stays
        self._checkpoints.wait()
        last = max((step for step in self._checkpoints.steps() if step < bad), default=None)
        if self._guard.may_roll_back(last):
            self._logger.say(f"step {bad:,}: {what} is not finite; back to checkpoint {last:,}, on with batch {bad:,}")
            self._seek, state = bad, self._checkpoints.restore(self._target, last)[0]
            state = state.replace(step=jax.device_put(np.int32(bad), state.step.sharding))
            if bad == self.num_steps:  # the loop does not turn again
                self._write(state)
            return state
        if int(state.step) == bad - 1 != last:  # not where too many were skipped
            self.done, last = bad - 1, bad - 1
            self._write(state.replace(skipped=jax.device_put(np.int32(0), state.step.sharding)))
            self._checkpoints.wait()
        examples = self._stream.numbers(bad - 1)[0].tolist()
        if self.writes:
            about = {"step": bad, "what": what, "examples": examples, "checkpoint": last}
            write_json(self.dir / "not_finite.json", about)
        some = ", ".join(map(str, examples[:3])) + (f" and {len(examples) - 3} more" if len(examples) > 3 else "")
        raise UserError(
            f"step {bad}: {what} is not finite, on examples {some}; checkpoint {last} is kept. See `almanac replay "
            f"{self.dir} --step {bad}`; lower optim.peak_lr, or set optim.clip_norm or not_finite"
        )

    def finish(self, state: Any) -> Any:
        """Waits for what is being written and closes the log. Returns the state."""
        self._flush()
        self._checkpoints.wait()
        self._best.wait()
        if self.writes and not (self._over and self._has_report()):
            write_json(self.dir / "report.json", {**self._report, "best": self._tracker, "done": self.done})
        return state

    def _has_report(self) -> bool:
        """Whether this finished run has written its report, which may have lines that its last checkpoint has not."""
        try:
            return read_json(self.dir / "report.json")["done"] == self.done
        except (UserError, LookupError, TypeError):
            return False

    # What the experiment wants kept beside its numbers

    def note(self, line: str) -> None:
        """A line for the terminal and the report."""
        if line not in self._report["lines"]:
            self._report["lines"].append(line)
            self._logger.say(line)

    def baseline(self, metric: str, values: Mapping[str, float], unit: str = "") -> None:
        """Simple predictors' values of a metric, shown beside the run's."""
        self._report["baselines"][metric] = dict(values)
        words = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        self.note(f"{metric} to beat: {words}{' ' if unit else ''}{unit}")

    @contextlib.contextmanager
    def on_one_device(self, state: Any) -> Iterator[Any]:
        """The state without its optimiser's, for what is not one program over all hosts, such as drawing samples.

        Several hosts must come here together: each gets the whole on its first device.
        """
        if jax.process_count() == 1:
            yield state
            return
        whole = jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(self.mesh))(state.replace(opt=()))
        one = mesh_lib.make_mesh(dict.fromkeys(self.mesh.shape, 1), jax.local_devices()[:1])
        with jax.set_mesh(one):
            yield jax.tree.map(lambda x: x.addressable_data(0), whole)

    def sample(self, name: str, write: Callable[[Path], Any]) -> None:
        """Calls `write` with a path under samples/ for this step's sample: `samples/step_00000100_<name>`."""
        if self.writes:
            folder = run_files.inside(self.dir, "samples")
            folder.mkdir(exist_ok=True)
            write(folder / f"step_{self.done:08d}_{name}")
