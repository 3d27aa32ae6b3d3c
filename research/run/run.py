"""A run directory: log, checkpoints, evaluation, preemption, early stopping, guard against NaN.

    config.json      the locked config, versions, commit, devices; the run's id, its sources and the history of its attempts
    metrics.jsonl    {"step", "split", "values"}: a pure function of config and seed, bit for bit
    timing.jsonl     {"step", "seconds", "examples_per_s", ...}: rates by the wall clock
    checkpoints/     the newest `keep` and each `keep_every`;  best/  the best by `best.metric`
    samples/ report.json report.html curves.png, TensorBoard events;  not_finite.json if a step was not finite

The device never waits for the host: values are read an interval late, or when something needs them (evaluation, a
checkpoint, the end), and the host is at most `device.MAX_STEPS_IN_FLIGHT` steps before it.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.cluster import cpu, determinism, device, membership
from research.core import dry_run, evaluation, flops
from research.core import mesh as mesh_lib
from research.core import state as state_lib
from research.core.config import check_read
from research.core.experiment import Evaluated, Experiment
from research.core.guard import Fault, Guard
from research.core.launches import bounds
from research.run import attempts, recovery
from research.run.best import RECORD, Best
from research.run.checkpoint import Checkpoints, NoWholeCheckpoint
from research.run.directory import Directory
from research.run.metric_log import Clock, RunLogger
from research.run.report import REPORTED, Report, is_written
from research.run.train_metrics import TrainMetrics
from research.util import run_files
from research.util.errors import UserError
from research.util.files import write_errors, write_json

PREEMPTED = 75  # exit status: saved, start again to resume
META = run_files.Shape(  # what a checkpoint keeps of a run beside its state
    {"tracker": RECORD, "elapsed": run_files.FINITE},
    {
        "rows": run_files.many(run_files.Kind("(step, metrics)", lambda v: _is_row(v))),
        "report": run_files.Kind("lines and baselines", lambda v: not REPORTED.fault(v)),
        "unmeasured": run_files.many(run_files.TEXT),
    },
)


class _Interrupted(SystemExit):
    """A SIGTERM came during an evaluation: after training, of which nothing is lost then, it ends the process."""


class Run:
    """`with Run(experiment, workdir) as run:` the mechanics around a visible loop.

    resume    "auto": resumes a run of the same config; "force": of another one, too
    profile   (first step, the one after the last) of a trace for a profiler, counted from where this start begins
    """

    def __init__(
        self, e: Experiment, workdir: str | Path, resume: str = "auto", profile: tuple[int, int] | None = None
    ):
        self._experiment, self.cfg = e, e.cfg
        cfg = e.cfg
        cfg.mark("name", "reproduces")  # read by the tools
        self._every = {k: cfg[f"{k}_every"] for k in ("log", "save")}
        self._evals = evaluation.intervals(e)
        self._save_seconds, self._policy = cfg.save_seconds, cfg.not_finite
        self.num_steps, self._seed, self._per_launch = cfg.num_steps, cfg.seed, cfg.get("steps_per_launch") or 1
        _check_numbers(cfg)
        cpu.tune()  # in a notebook nothing has, nor
        device.use_compilation_cache()
        self._compiled_before = device.compiled_so_far()
        if cfg.deterministic:
            determinism.switch_on()
        self.mesh = mesh_lib.make_mesh(cfg.mesh)
        self._fingerprint = determinism.fingerprint(self.mesh)
        self.writes = jax.process_index() == 0
        self._directory = Directory(workdir, cfg.to_dict(), resume, self._fingerprint, self.writes)
        self.dir = self._directory.folder
        self._profiler = device.Profiler(self.dir / "profile", profile)
        identity = self._directory.run if self.writes else None  # one process compares for all
        self._checkpoints = Checkpoints(self.dir / "checkpoints", cfg.keep, cfg.keep_every, identity)
        self._best = Best(cfg.best, self.dir / "best", identity)

        self.done = 0  # updates done; during the loop's body, the one under way counts
        self._logger: Any = None  # opened when the state is there
        self._preempted = self._saved = self._first_step_done = False
        self._elapsed = 0.0  # seconds of all attempts at the last save
        self._resume_step: int | None = None  # after a roll-back
        self._unmeasured: list[
            str
        ] = []  # splits that were due at the step of the checkpoint, whose evaluation was left

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
        self._directory.close(error, mistake=isinstance(error, UserError) and not self._first_step_done)

    def _on_sigterm(self, *_: Any) -> None:
        self._preempted = jax.process_count() == 1
        membership.preempt()

    # The order of things: start, then for each batch log, evaluate and save, then finish

    def start(self, trains: bool = True) -> state_lib.TrainState:
        """A TrainState, born sharded or restored from this directory; the data's report and baselines are written.

        Without `trains`, no step follows.
        """
        e = self._experiment
        self._check(e)
        self._target = target = state_lib.abstract(e.init_fn, e.tx, self.mesh, e.rules, bool(e.ema))[0]
        self._best.check_name(
            dry_run.metric_names(e, target, self.mesh, self._evals, trains), e.split_metrics, e.judged
        )
        self._guard = Guard(self._policy, target.params, e.tx)
        self.parameters = state_lib.count(jax.eval_shape(lambda state: state.variables["params"], target))
        self._flops = flops.share(lambda: e.train_step.trace(target, e.train.spec), self.mesh)
        meta: Mapping[str, Any] = {}
        if fresh := not self._checkpoints.steps():
            state = state_lib.create(
                e.init_fn, e.tx, self._seed, self.mesh, e.rules, bool(e.ema), target=target,
                meanwhile=lambda: self._compile(e, target, trains),
            )  # fmt: skip
        else:
            state, meta = self._checkpoints.restore(target)
            self.done = int(state.step)
            if fault := META.fault(meta):
                raise UserError(f"{self.dir / 'checkpoints' / str(self.done)}: its metadata, {fault}")
            self._best.record, self._elapsed = meta["tracker"], meta["elapsed"]
            self._unmeasured = list(meta.get("unmeasured", ()))
        every, rows = self._every["log"], meta.get("rows", ())
        self._metrics = TrainMetrics(self._guard, every, self.num_steps, self._per_launch, rows)
        self._profiler.check(self.num_steps - self.done)
        self._open()
        self._report = Report(self._logger.say, meta.get("report"))
        self._report.describe(e.data)
        if self._unmeasured:
            self._measure_again(state)
        return e.load_pretrained(state, self) if fresh and e.load_pretrained else state

    def batches(self) -> Iterator[dict]:
        """The batches to train on, from the state's step to `num_steps`, or until early stopping.

        With `steps_per_launch` above 1 each is a `step.Launch` of that many steps, fewer before a step at which something is
        due.
        """
        self._clock = Clock(self._elapsed, self.done)
        while self.done < self.num_steps and not self._best.record["stopped"]:
            yield from self._batches_from(self.done)
            if self._resume_step is None:
                break
            self.done, self._resume_step = self._resume_step, None
        self._logger.finish_bar()

    def log(self, split: str, values: Mapping) -> None:
        """Training pairs are kept on the device and averaged over `log_every` steps; other splits' values are written."""
        if split != "train":
            self._flush()
            if self._guard.fault:  # measured on a state that `save` will not resume from
                return
            self._logger.write(self.done, split, values)
            if line := self._best.track(self.done, split, values):
                self._logger.say(line)
            return
        self._metrics.add(self.done, values)
        if self.due(self._every["log"]):
            self._clock.mark(self.done)
            # The interval before this one: by now the device is past it.
            self._metrics.read(self.done - self._every["log"])
            self._write_train()

    def evaluate(self, state: Any) -> Iterator[tuple[str, Mapping[str, float]]]:
        """(split, its metrics) of each split that is due at this step.

        A SIGTERM ends an evaluation between its batches: the state is saved and the run left with status 75. Its next start
        measures again what was not measured, before it trains.
        """
        due = [split for split, every in self._evals.items() if self.due(every)]
        for i, split in enumerate(due):
            try:
                values = self.measure(state, split)
            except _Interrupted:
                self._leave_evaluation(state, due[i:])
            yield split, values

    def evaluate_at_end(self, state: Any) -> Iterator[tuple[str, Mapping[str, float]]]:
        """(split, its metrics) of each of `Experiment.at_end`, but for those that an attempt which was killed here has logged.

        Those are measured again, unless the report is written: what an evaluation says besides was lost with that attempt.
        """
        log = self.dir / "metrics.jsonl"
        rows = run_files.read_rows(log, run_files.METRICS) if log.exists() else []
        logged = {row["split"] for row in rows if row["step"] == self.done}
        for split in self._experiment.at_end:
            if split in logged and self._reported:
                continue
            values = self.measure(state, split)
            if split not in logged:
                yield split, values

    def save(self, state: Any) -> Any:
        """Saves when due, at the end, when early stopping ends the run and when preempted (then leaves with status 75).

        Returns the state to continue with: another one after a roll-back.
        """
        self._preempted |= membership.ends_at(self.done)  # several hosts: with one step, after a SIGTERM to any of them
        ends = self._preempted or self._best.record["stopped"]
        self._best.save(self.done, state)
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
            self._logger.say(f"preempted: saved step {self.done:,}; the same command resumes")
            raise SystemExit(PREEMPTED)
        return state

    def finish(self, state: Any) -> Any:
        """Waits for what is being written and closes the log. Returns the state."""
        self._flush()
        self._checkpoints.wait()
        self._best.wait()
        if self.writes and not self._reported:
            self._report.write(self.dir, self._best.record, self.done)
        return state

    # What a loop may ask for besides

    def due(self, every: int) -> bool:
        """Whether the step under way ends an interval of `every` steps, or is the last. 0 is never but the last."""
        return self.done >= self.num_steps or (every > 0 and self.done % every == 0)

    def measure(self, state: Any, split: str) -> Mapping[str, float]:
        """The metrics of a split; what its evaluator says besides is written under samples/ and noted."""
        e = self._experiment
        local = self.on_one_device
        return evaluation.measure(e, state, split, self.dir, self.mesh, local, self._between_batches, self._keep).values

    def note(self, line: str) -> None:
        """A line for the terminal and the report."""
        self._report.note(line)

    def sample(self, name: str, write: Callable[[Path], Any]) -> None:
        """Calls `write` with a path under samples/ for this step's sample: `samples/step_00000100_<name>`."""
        if self.writes:
            folder = run_files.inside(self.dir, "samples")
            folder.mkdir(exist_ok=True)
            write(folder / f"step_{self.done:08d}_{name}")

    def best_state(self, state: Any) -> Any:
        """The state that was best by `best.metric`; `state` if none is kept, or, with a note, if it is damaged."""
        try:
            return self._best.restore(state)
        except NoWholeCheckpoint as e:
            self.note(f"{e}; the last step is used in its place")
            return state

    @contextlib.contextmanager
    def on_one_device(self, state: Any) -> Iterator[Any]:
        """The state on one local device, without the optimiser's, for what is not SPMD (sampling, scoring on the host).

        Collective: every process must enter.
        """
        if jax.process_count() == 1:
            yield state
            return
        replicated = jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(self.mesh))(state.replace(opt=()))
        one = mesh_lib.make_mesh(dict.fromkeys(self.mesh.shape, 1), jax.local_devices()[:1])
        with jax.set_mesh(one):
            yield jax.tree.map(lambda x: x.addressable_data(0), replicated)

    # Inside

    def _check(self, e: Experiment) -> None:
        """Raises UserError for what would else fail in the middle of the run, or go unnoticed."""
        mesh_lib.host_rows(self.mesh, e.train.batch_size)
        for batches in e.evals.values():
            mesh_lib.host_rows(self.mesh, batches.batch_size, "data.eval_batch_size")
        if self._per_launch > 1 and (kinds := len(e.train.shapes)) > 1:
            raise UserError(
                f"steps_per_launch = {self._per_launch}: the batches of this data have {kinds} shapes, and only batches of one "
                "shape can share a launch; set it to None"
            )
        self._best.check(list(self._evals))

    def _compile(self, e: Experiment, target: state_lib.TrainState, trains: bool) -> None:
        """Compiles the step before its first call. Not on several hosts, which must compile everything in one order."""
        if trains and jax.process_count() == 1 and self._per_launch == 1:
            e.train_step.lower(target, dry_run.abstract_batch(e.train.spec, self.mesh)).compile()

    def _open(self) -> None:
        over, config = self._best.record["stopped"] or self.done >= self.num_steps, self.cfg.to_dict()
        over = over and not self._unmeasured
        self._reported = over and is_written(self.dir, self.done)
        about = {"name": config.get("name"), "parameters": self.parameters, "devices": device.describe(self.mesh)}
        with write_errors(self.dir):
            if self.writes and not over:  # what made a finished run stays written
                about |= {"config": config, "versions": device.versions(), "commit": device.commit()}
                about |= {"fingerprint": self._fingerprint, "sources": self._directory.sources}
                before, run = self._directory.before, self._directory.run
                changed = self._directory.changed + [
                    f"{name}: replaced in Python" for name in self._experiment.replaced
                ]
                write_json(self.dir / "config.json", attempts.extend(before, about, run, self.done, changed))
            self._logger = RunLogger(self.dir, self.done, self.num_steps, self.writes, self._unmeasured)
        words = f"{about['name'] or self.dir.name}  {self.parameters:,} parameters  {about['devices']}"
        self._logger.say(f"{words}  {self.dir}")
        if replaced := self._experiment.replaced:
            self._logger.say(f"replaced in Python, so that the config does not tell it: {', '.join(replaced)}")
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
        """Logs what differs from the attempt before: the config, and the code."""
        directory = self._directory
        if directory.changed:
            self._logger.say(f"the config has changed since: {attempts.few(directory.changed)}")
        if directory.edited:
            self._logger.say(f"the code has changed since: {attempts.few(directory.edited)}")
        if "sources" not in directory.before:
            self._logger.say("this run was begun before code was recorded: whether that has changed is not known")

    def _batches_from(self, first: int) -> Iterator[dict]:
        for step, end, batch in self._launches(self._experiment.train, first):
            self._profiler.at(step - first)
            self.done, self._saved = end, False
            membership.beat()
            yield batch
            if not self._first_step_done:
                check_read(self.cfg)  # all that is read has been
                self._first_step_done = True
                self._logger.say(device.cache_report(self._compiled_before))
            if self._best.record["stopped"] or self._resume_step is not None:
                return

    def _launches(self, train: Any, first: int) -> Iterator[tuple[int, int, dict]]:
        """(first step, the one after the last, batch or batches) of each launch."""
        if self._per_launch == 1:
            for step, batch in enumerate(train.on_device(self.mesh, first, self.num_steps), first):
                yield step, step + 1, batch
            return
        cuts = self._profiler.cuts(first)
        ends = bounds(first, self.num_steps, self._per_launch, [*self._every.values(), *self._evals.values()], cuts)
        yield from zip(ends, ends[1:], train.launches(self.mesh, ends), strict=False)

    def _flush(self) -> None:
        self._metrics.read()
        self._write_train()

    def _write_train(self) -> None:
        for end, values in self._metrics.intervals():
            self._logger.write(end, "train", values)
            self._logger.time(end, self._clock.rates(end, self._experiment.train.units, self._flops), values)

    def _between_batches(self) -> None:
        """Of an evaluation. Several hosts leave with a step, all with the same one."""
        membership.beat()
        if self._preempted and jax.process_count() == 1:
            raise _Interrupted(PREEMPTED)

    def _leave_evaluation(self, state: Any, splits: list[str]) -> NoReturn:
        self._flush()
        words = "the evaluation was left"
        if not self._guard.fault:  # else the next start meets the fault again, and does what the config says
            self._unmeasured = splits
            self._write(state)
            self._checkpoints.wait()
            words = f"saved step {self.done:,} and left its evaluation, which is made again"
        self._logger.say(f"preempted: {words}; the same command resumes")
        raise SystemExit(PREEMPTED)

    def _measure_again(self, state: Any) -> None:
        """What an attempt before left at the step of its checkpoint."""
        for split in self._unmeasured:
            try:
                self.log(split, self.measure(state, split))
            except _Interrupted:
                self._logger.say("preempted in the evaluation; the same command resumes")
                raise SystemExit(PREEMPTED) from None
        self._best.save(self.done, state)
        self._unmeasured = []

    def _keep(self, evaluated: Evaluated) -> None:
        for line in evaluated.lines:
            self.note(line)
        for name, write in evaluated.files.items():
            self.sample(name, write)

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
        meta = {"rows": self._metrics.rows, "tracker": self._best.record, "elapsed": self._elapsed}
        if self._unmeasured:
            meta["unmeasured"] = self._unmeasured
        self._checkpoints.save(self.done, state, {**meta, "report": self._report.values})
        self._directory.push(self.dir / "checkpoints" / str(self.done))

    def _recover(self, state: Any) -> Any:
        """Rolls back, or keeps the state before the step that was not finite and ends the run."""
        fault, self._guard.fault = self._guard.fault, None
        self._first_step_done = True  # what has been written tells of the step: it stays
        self._metrics.forget()
        self._checkpoints.wait()
        last = recovery.before(fault.step, self._checkpoints.steps())
        if self._guard.may_roll_back(last):
            return self._roll_back(fault, last)
        if int(state.step) == fault.step - 1 != last:  # not where too many were skipped
            self.done = last = fault.step - 1
            self._write(state.replace(skipped=jax.device_put(np.int32(0), state.step.sharding)))
            self._checkpoints.wait()
        examples = self._experiment.train.numbers(fault.step - 1)[0].tolist()
        if self.writes:
            recovery.write(self.dir, fault, examples, last)
        raise recovery.error(self.dir, fault, examples, last)

    def _roll_back(self, fault: Fault, last: int) -> Any:
        step, what = fault
        self._logger.say(f"step {step:,}: {what} is not finite; back to checkpoint {last:,}, on with batch {step:,}")
        self._resume_step, state = step, self._checkpoints.restore(self._target, last)[0]
        state = state.replace(step=jax.device_put(np.int32(step), state.step.sharding))
        if step == self.num_steps:  # the loop does not turn again
            self._write(state)
        return state


def _is_row(value: Any) -> bool:
    """Whether a value is [step, {name: [sum, weight]}], as a checkpoint keeps the metrics that are not yet logged."""
    if not isinstance(value, list) or len(value) != 2 or not run_files.COUNT.fits(value[0]):
        return False
    pairs = list(value[1].values()) if isinstance(value[1], dict) else [None]
    return all(isinstance(pair, list) and len(pair) == 2 and all(map(run_files.NUMBER.fits, pair)) for pair in pairs)


def _check_numbers(cfg: Any) -> None:
    for key in ("num_steps", "keep", "keep_every", "save_seconds", "steps_per_launch"):
        if not isinstance(cfg.get(key, 1), int | float) or not cfg.get(key, 1) >= 1:
            raise UserError(f"{key} = {cfg[key]!r}: at least 1")
    for key in ("log_every", "eval_every", "save_every"):
        if not isinstance(cfg.get(key, 0), int | float) or not cfg.get(key, 0) >= 0:
            raise UserError(f"{key} = {cfg[key]!r}: steps, at least 0; 0 is at the end alone")
    if cfg.num_steps >= 2**31:
        raise UserError(f"num_steps = {cfg.num_steps}: below 2**31, steps are counted by i32")
    if not isinstance(cfg.get("steps_per_launch", 1), int):
        raise UserError(f"steps_per_launch = {cfg.steps_per_launch}: a whole number")
