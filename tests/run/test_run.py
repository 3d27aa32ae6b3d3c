"""The run: its log by hand, resuming bit for bit, preemption, early stopping, NaN, mistakes."""

import dataclasses
import json
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import CheckpointManager

from research.cluster import determinism, device
from research.core import mesh, metrics, optim, state
from research.core.config import OPTIM, track_reads
from research.core.experiment import Evaluated, Experiment
from research.core.step import Step, advance, make_eval_step, update
from research.data.pipeline import Arrays, EvalBatches, TrainBatches
from research.run import identity, sources
from research.run import run as run_module
from research.run.checkpoint import Checkpoints
from research.run.run import PREEMPTED, Run
from research.util.errors import UserError

BASE = {
    "name": "toy/linear",
    "seed": 0,
    "optim": {**OPTIM, "name": "momentum", "peak_lr": 0.05, "warmup": 2},
    "mesh": {"data": -1},
    "num_steps": 20,
    "log_every": 3,
    "eval_every": 5,
    "save_every": 4,
    "keep": 2,
    "keep_every": None,
    "save_seconds": None,
    "steps_per_launch": None,
    "not_finite": "stop",
    "deterministic": False,
    "best": {"metric": "valid/loss", "mode": "min", "patience": None},
    "poison": None,  # (first step, last, "kernel", "loss" or "update"): what is not finite in these steps
    "reproduces": None,
}


def config(**changes):
    groups = {k: {**BASE[k], **v} for k, v in changes.items() if isinstance(BASE.get(k), dict)}
    return {**BASE, **changes, **groups}


def measure(outputs, batch):
    return {"loss": metrics.pair(jnp.square(outputs["y"] - batch["y"]), batch.get("mask"))}


def predict(variables, inputs):
    p = variables["params"]["dense"]
    return {"y": inputs["x"] @ p["kernel"] + p["bias"]}


def loss(poison, step, params, model_state, batch, key):
    """Squares, of inputs with noise: the keys must come again, too."""
    noisy = {**batch, "x": batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)}
    found = measure(predict({"params": params}, noisy), noisy)
    total, weight = found["loss"]
    terms = {"loss": (total, weight, 1.0)}
    if poison:
        bad = jnp.where((step + 1 >= poison[0]) & (step + 1 <= poison[1]), jnp.nan, 0.0)
        if poison[2] == "kernel":
            terms["poison"] = (bad * params["dense"]["kernel"].sum(), 1.0, 1.0)
        if poison[2] == "loss":
            found = {"loss": (found["loss"][0] + bad, found["loss"][1])}
    return terms, (found, model_state)


def experiment(cfg):
    cfg = track_reads(cfg)
    draw = np.random.default_rng(0).normal
    arrays = [{"x": draw(size=(n, 3)).astype("f"), "y": draw(size=n).astype("f")} for n in (40, 20)]
    tx = optim.make(cfg.optim, cfg.num_steps)
    poison, not_finite = cfg.poison, cfg.not_finite
    for key in ("accumulate", "clip_norm", "ema"):
        assert cfg.optim[key] in (0, 1)

    def train_step(state, batch):
        rule = tx
        if poison and poison[2] == "update":  # finite gradients, and a parameter beyond float32
            huge = jnp.where(state.step + 1 == poison[0], 3e38, 0.0)
            grow = optax.stateless(lambda u, p: {"dense": {**u["dense"], "bias": u["dense"]["bias"] + huge}})
            rule = SimpleNamespace(init=tx.init, update=optax.chain(tx, grow, grow).update)
            state = state.replace(opt=(state.opt, optax.EmptyState(), optax.EmptyState()))
        state, found = update(state, batch, partial(loss, poison, state.step), rule)
        return advance(state if rule is tx else state.replace(opt=state.opt[0])), found

    return Experiment(
        cfg=cfg,
        train=TrainBatches(Arrays(arrays[0]), 8, cfg.seed),
        evals={"valid": EvalBatches(Arrays(arrays[1]), 8)},
        init_fn=lambda key: {"params": {"dense": {"kernel": jax.random.normal(key, (3,)), "bias": jnp.zeros(())}}},
        tx=tx,
        train_step=Step(train_step, not_finite),
        eval_step=make_eval_step(predict, measure),
        predictor=None,
    )


class Killed(BaseException):
    pass


def train(folder, cfg=BASE, before_save=lambda run, state, metrics: None, valid=None, e=None, **how):
    e = e or experiment(cfg)
    with Run(e, folder, **how) as run:
        state = run.start()
        run.note("a note")
        for batch in run.batches():
            state, found = e.train_step(state, batch)
            run.log("train", found)
            for split, values in run.evaluate(state):
                run.log(split, {"loss": valid(run.done)} if valid else values)
            before_save(run, state, found)
            state = run.save(state)
        return run.finish(state)


def at(step, do):
    """A `before_save` that acts in one step."""
    return lambda run, state, metrics: do() if run.done == step else None


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def steps(folder, name="checkpoints"):
    return Checkpoints(folder / name).steps()


def same(a, b):
    words = [
        [np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in leaves]
        for leaves in (jax.tree.leaves(a), jax.tree.leaves(b))
    ]
    assert [w.tobytes() for w in words[0]] == [w.tobytes() for w in words[1]]


def state_of(folder, cfg=BASE, name="checkpoints"):
    e = experiment(cfg)
    target, _ = state.abstract(e.init_fn, e.tx, mesh.make_mesh({"data": -1}))
    return Checkpoints(folder / name).restore(target)[0]


def best(folder, cfg=BASE):
    return state_of(folder, cfg, "best")


def terminated(cfg, step, count):
    """The experiment, which gets a SIGTERM while it evaluates the state of `step`, at batch number `count` over all splits."""
    e, seen = experiment(cfg), []

    def eval_step(state, batch):
        if not isinstance(state.step, jax.core.Tracer) and int(state.step) == step:  # a start traces it for its names
            seen.append(batch)
            if len(seen) == count:
                terminate()
        return e.eval_step(state, batch)

    return dataclasses.replace(e, eval_step=eval_step)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, final state, each step's metrics and states."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    seen = SimpleNamespace(folder=folder, metrics={}, states={})

    def keep(run, state, found):
        seen.metrics[run.done] = jax.device_get(found)
        seen.states[run.done] = jax.tree.map(jnp.copy, state)

    seen.final = train(folder, before_save=keep)
    return seen


# The log


def test_log_holds_each_intervals_mean(whole):
    """Every 3 steps, to the end; steps 19 and 20 are the last line's."""
    found = [(line["step"], line["split"]) for line in lines(whole.folder)]
    train_steps = [3, 6, 9, 12, 15, 18, 20]
    assert [s for s, split in found if split == "train"] == train_steps
    assert [s for s, split in found if split == "valid"] == [5, 10, 15, 20]
    assert [s for s, _ in found] == sorted(s for s, _ in found)

    logged = {line["step"]: line["values"] for line in lines(whole.folder) if line["split"] == "train"}
    for first, last in zip([0, *train_steps], train_steps, strict=False):
        inside = [whole.metrics[s] for s in range(first + 1, last + 1)]
        assert set(logged[last]) == {"loss", "grad_norm", "learning_rate"}
        total = sum(float(m["loss"][0]) for m in inside)
        assert logged[last]["loss"] == pytest.approx(total / (8 * len(inside)), rel=1e-12)
        norms = [float(m["grad_norm"][0]) for m in inside]
        assert logged[last]["grad_norm"] == pytest.approx(np.mean(norms), rel=1e-12)
    assert logged[3]["learning_rate"] == pytest.approx((0 + 0.025 + 0.05) / 3)


def test_evaluation_by_hand(whole):
    e = experiment(BASE)
    x, y = (e.evals["valid"].source.arrays[k] for k in "xy")
    p = jax.device_get(whole.states[10].params["dense"])
    expected = np.mean((x.astype("d") @ p["kernel"] + p["bias"] - y) ** 2)
    (line,) = (v for v in lines(whole.folder) if (v["step"], v["split"]) == (10, "valid"))
    assert line["values"]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_clock_is_kept_apart(whole):
    timed = lines(whole.folder, "timing.jsonl")
    assert [line["step"] for line in timed] == [3, 6, 9, 12, 15, 18, 20]
    assert all(set(line) == {"step", "seconds", "examples_per_s"} for line in timed)
    seconds = [line["seconds"] for line in timed]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert all(set(line) == {"step", "split", "values"} for line in lines(whole.folder))


def test_what_else_a_run_leaves(whole):
    about = json.loads((whole.folder / "config.json").read_text())
    assert about["config"]["num_steps"] == 20 and about["name"] == "toy/linear"
    assert about["parameters"] == 4
    assert about["versions"]["jax"] == jax.__version__
    report = json.loads((whole.folder / "report.json").read_text())
    assert report["lines"] == ["a note"] and report["done"] == 20
    assert steps(whole.folder) == [16, 20]
    values = {v["step"]: v["values"]["loss"] for v in lines(whole.folder) if v["split"] == "valid"}
    assert report["best"]["step"] == min(values, key=values.get)
    assert report["best"]["value"] == min(values.values())


class Pending:
    """A metric on a device: records when it is read, and when waited for."""

    def __init__(self, step, run, reads, waits):
        self.step, self.run, self.reads, self.waits = step, run, reads, waits

    def copy_to_host_async(self):
        pass

    def block_until_ready(self):
        self.waits.append((self.step, self.run.done))

    def __array__(self, *args, **kwargs):
        self.reads.append((self.step, self.run.done))
        return np.float32(1.0)


@pytest.mark.parametrize(
    "log_every, read, waited", [(3, 12, {1, 2, 4, 5, 7, 8, 10, 11, 13}), (7, 7, set(range(1, 14)))]
)
def test_the_device_never_waits_for_the_log(tmp_path, log_every, read, waited):
    """A step's values are read when an interval has passed, or something else needs them; the host keeps four steps before."""
    e, reads, waits = experiment(config(log_every=log_every, save_every=0, eval_every=0)), [], []
    with Run(e, tmp_path / "run") as run:
        made = run.start()
        e.cfg.mark("eval_every")
        for _ in run.batches():
            run.log("train", {"loss": tuple(Pending(run.done, run, reads, waits) for _ in range(2))})
            if run.done == 17:
                assert {s for s, _ in reads} == set(range(1, read + 1))
                run.log("valid", {"loss": 1.0})
                assert {s for s, _ in reads} == set(range(1, 18))
            run.save(made)
    assert sorted(s for s, _ in reads) == sorted([*range(1, 21)] * 2)
    assert all(done - step >= log_every for step, done in reads if done < 17)
    assert {done - step for step, done in waits} == {4}
    assert {step for step, _ in waits} == waited


# Resuming


@pytest.mark.parametrize("killed", [2, 5, 7, 11, 20])
def test_killed_and_resumed_is_the_uninterrupted_run(whole, tmp_path, killed):
    """Before the first checkpoint, after an evaluation that is lost, before the last step's save."""
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, before_save=at(killed, kill))
    lost = [line for line in lines(folder) if line["step"] > max(steps(folder), default=0)]
    assert lost or killed in (2, 11)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "split": "tra')  # a line cut short
    with (folder / "timing.jsonl").open("ab") as log:
        log.write(b"\xff\x00\n[]\n")
    same(train(folder), whole.final)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    assert [v["step"] for v in lines(folder, "timing.jsonl")] == [3, 6, 9, 12, 15, 18, 20]
    assert steps(folder) == steps(whole.folder)
    assert steps(folder, "best") == steps(whole.folder, "best")
    same(best(folder), best(whole.folder))
    assert (folder / "report.json").read_text() == (whole.folder / "report.json").read_text()


@pytest.mark.parametrize("killed", [None, "first", "second"])
def test_killed_in_the_evaluation_at_the_end(tmp_path, killed):
    """After a split was logged, before the report was written: no row comes twice, and no line of the report is lost."""

    def evaluator(state, split, folder, after_batch):
        return Evaluated({"two": 2.0}, lines=[f"{split} scored"])

    def to_the_end(folder, killed=None):
        e = dataclasses.replace(experiment(BASE), evaluator=evaluator, judged=("two",), at_end=("first", "second"))
        with Run(e, folder) as run:
            state = run.start()
            for batch in run.batches():
                state, found = e.train_step(state, batch)
                run.log("train", found)
                state = run.save(state)
            for split, values in run.evaluate_at_end(state):
                run.log(split, values)
                if split == killed:
                    kill()
            return run.finish(state)

    to_the_end(tmp_path / "whole")
    if killed:
        with pytest.raises(Killed):
            to_the_end(tmp_path / "run", killed)
    for _ in range(2):  # the second is of a finished run
        to_the_end(tmp_path / "run")
        for name in ("metrics.jsonl", "report.json"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [line["split"] for line in lines(tmp_path / "run") if "two" in line["values"]] == ["first", "second"]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["lines"] == ["first scored", "second scored"]


def test_damaged_newest_checkpoint_costs_but_time(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, before_save=at(11, kill))
    (folder / "checkpoints" / "8" / "meta" / "metadata").write_text("")
    with pytest.warns(UserWarning, match="8 is damaged"):
        same(train(folder), whole.final)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_sigterm_saves_and_exits_75(whole, tmp_path):
    folder, handler = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        train(folder, before_save=at(7, terminate))
    assert exit_.value.code == PREEMPTED == 75
    assert steps(folder) == [4, 7]
    assert signal.getsignal(signal.SIGTERM) is handler
    same(train(folder), whole.final)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("when", ["check_for_errors", "wait_until_finished", "close"])
def test_a_folder_that_vanishes_under_a_save(tmp_path, monkeypatch, when):
    """Whatever Orbax says then, one line tells what it was."""
    folder = tmp_path / "run"

    def fail(*args, **kwargs):
        if folder.exists():
            folder.rename(tmp_path / "elsewhere")
            raise ValueError("Save failed: 1/16 params are missing .zarray in checkpoint:\nstep.")

    def before_save(run, state, metrics):
        if run.done == 8:
            run._checkpoints.wait(), run._best.wait()
            monkeypatch.setattr(CheckpointManager, when, fail)

    with pytest.raises(UserError, match="removed or replaced while the run went on.* start again") as error:
        train(folder, before_save=before_save)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    (tmp_path / "elsewhere").rename(folder)
    assert train(folder).step == 20


def test_an_error_where_the_folder_stands_is_told_as_it_is(tmp_path):
    def fail():
        raise ValueError("of another kind")

    with pytest.raises(ValueError, match="of another kind"):
        train(tmp_path / "run", before_save=at(8, fail))


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_finished_run_started_again_changes_nothing(whole, monkeypatch):
    """Not even who made it: another commit did not train it."""
    monkeypatch.setattr(device, "commit", lambda: "another")
    was = everything(whole.folder)
    same(train(whole.folder), whole.final)
    assert everything(whole.folder) == was


# Early stopping


@pytest.mark.parametrize("mode, sign", [("min", 1), ("max", -1)])
def test_early_stopping(tmp_path, mode, sign):
    """Evaluated every 2 steps, best at 6; 4 steps without a better one end it at 10."""
    values = {2: 3.0, 4: float("nan"), 6: 1.0, 8: 1.5, 10: 1.0}
    cfg = config(eval_every=2, best={"mode": mode, "patience": 4})
    folder, kept = tmp_path / "run", {}

    def keep(run, state, found):
        kept[run.done] = jax.tree.map(jnp.copy, state)

    run = partial(train, folder, cfg, valid=lambda step: sign * values[step])
    final = run(before_save=keep)
    assert int(final.step) == 10 and steps(folder)[-1] == 10
    assert steps(folder, "best") == [6]
    same(best(folder, cfg), kept[6])
    assert lines(folder)[-1] == {"step": 10, "split": "valid", "values": {"loss": sign * 1.0}}
    was = everything(folder)
    same(run(), final)  # stays stopped
    assert everything(folder) == was


def test_early_stopping_counts_across_lives(tmp_path):
    values = {2: 1.0, 4: 2.0, 6: 2.0, 8: 2.0}
    cfg = config(eval_every=2, save_every=3, best={"patience": 6})
    run = partial(train, tmp_path / "run", cfg, valid=values.get)
    with pytest.raises(Killed):
        run(before_save=at(5, kill))
    assert int(run().step) == 8


# What is not finite

NAMES = {"kernel": "the gradient of dense/kernel", "loss": "the loss", "update": "the updated dense/bias"}


@pytest.mark.parametrize("what", NAMES)
def test_not_finite_stops_with_the_state_before_it(whole, tmp_path, what):
    folder, reached = tmp_path / "run", []
    cfg = config(poison=(6, 6, what), eval_every=0)
    with pytest.raises(UserError) as error:
        train(folder, cfg, before_save=lambda run, *_: reached.append(run.done))
    stream = experiment(cfg).train
    examples = [int(x) for x in np.random.default_rng((0, 1)).permutation(40)[:8]]  # batch 5 opens epoch 1
    assert list(stream.numbers(5)[0]) == examples
    text = f"step 6: {NAMES[what]} is not finite, on examples {', '.join(map(str, examples[:3]))} and 5 more; "
    assert str(error.value).startswith(f"{text}checkpoint 5 is kept. See `almanac replay {folder} --step 6`")
    assert "\n" not in str(error.value)
    said = {"step": 6, "what": NAMES[what], "examples": examples, "checkpoint": 5}
    assert json.loads((folder / "not_finite.json").read_text()) == said
    assert steps(folder) == [4, 5] and max(reached) <= 9
    assert [line["step"] for line in lines(folder)] == [3]
    kept = state_of(folder, cfg)
    same(kept, whole.states[5])
    with pytest.raises(UserError, match="step 6: "):  # and again from there
        train(folder, cfg)
    assert steps(folder) == [4, 5]
    assert int(train(folder, config(eval_every=0), resume="force").step) == 20


@pytest.mark.parametrize("log_every", [1, 3])
def test_not_finite_at_once(tmp_path, log_every):
    """What was written stays: the first step is no mistake of the command line."""
    with pytest.raises(UserError, match="step 1: the gradient of dense/kernel .*; checkpoint 0 is kept"):
        train(tmp_path / "run", config(poison=(1, 9, "kernel"), log_every=log_every))
    assert steps(tmp_path / "run") == [0] and steps(tmp_path / "run", "best") == []
    assert (tmp_path / "run" / "not_finite.json").exists()


def test_skipping_leaves_the_update_out_and_counts_it(whole, tmp_path):
    seen = {}
    cfg = config(poison=(5, 6, "loss"), not_finite="skip")

    def keep(run, state, found):
        seen[run.done] = jax.tree.map(jnp.copy, state)

    final = train(tmp_path / "a", cfg, before_save=keep)
    same(seen[4], whole.states[4])
    for step in (5, 6):
        same(seen[step].params, whole.states[4].params)
        same(seen[step].opt, whole.states[4].opt)
        assert (int(seen[step].step), int(seen[step].skipped)) == (step, step - 4)
    assert int(final.skipped) == 2 and int(final.step) == 20
    logged = {v["step"]: v["values"] for v in lines(tmp_path / "a") if v["split"] == "train"}
    assert [v["skipped"] for v in logged.values()] == [0, pytest.approx(2 / 3), 0, 0, 0, 0, 0]
    only = whole.metrics[4]["loss"]
    assert logged[6]["loss"] == pytest.approx(float(only[0] / only[1]), rel=1e-6)

    with pytest.raises(Killed):
        train(tmp_path / "b", cfg, before_save=at(7, kill))
    same(train(tmp_path / "b", cfg), final)
    assert (tmp_path / "b" / "metrics.jsonl").read_bytes() == (tmp_path / "a" / "metrics.jsonl").read_bytes()


def test_rolling_back_goes_on_past_the_batch(whole, tmp_path):
    """Checkpoint 4, then batches 6, 7, ... (counted from 0): the state of step 7 by hand."""
    seen = {}
    cfg = config(poison=(6, 6, "kernel"), not_finite="rollback", eval_every=0)

    def keep(run, state, found):
        seen[run.done] = jax.tree.map(jnp.copy, state)

    final = train(tmp_path / "a", cfg, before_save=keep)
    e = experiment(cfg)
    axes = mesh.make_mesh({"data": -1})
    start = whole.states[4].replace(step=jnp.int32(6))
    (batch,) = e.train.on_device(axes, 6, 7)
    with jax.set_mesh(axes):
        expected, _ = jax.jit(e.train_step.fn)(start, batch)
    same(expected.params, seen[7].params)
    assert int(final.step) == 20
    logged = [line["step"] for line in lines(tmp_path / "a") if line["split"] == "train"]
    assert logged == [3, 6, 9, 12, 15, 18, 20]

    with pytest.raises(Killed):
        train(tmp_path / "b", cfg, before_save=at(15, kill))
    same(train(tmp_path / "b", cfg), final)
    assert (tmp_path / "b" / "metrics.jsonl").read_bytes() == (tmp_path / "a" / "metrics.jsonl").read_bytes()


def test_rolling_back_at_the_very_end(tmp_path):
    final = train(tmp_path / "run", config(poison=(20, 20, "kernel"), not_finite="rollback"))
    assert int(final.step) == 20 and steps(tmp_path / "run")[-1] == 20


@pytest.mark.parametrize("policy, kept", [("skip", 12), ("rollback", 15)])
def test_what_never_becomes_finite_stops(tmp_path, policy, kept):
    """After ten in a row, or ten times from one checkpoint."""
    cfg = config(poison=(6, 99, "kernel"), not_finite=policy, log_every=1, eval_every=0, num_steps=40)
    with pytest.raises(UserError, match="step 16: the gradient of dense/kernel is not finite"):
        train(tmp_path / "run", cfg)
    assert steps(tmp_path / "run")[-1] == kept


def test_there_is_no_such_policy():
    with pytest.raises(UserError, match="not_finite = 'skipp'; did you mean 'skip'?"):
        experiment(config(not_finite="skipp"))


# Several steps a launch

LAUNCHED = dict(steps_per_launch=4, log_every=10, eval_every=10, save_every=10)  # launches end at 4, 8, 10, 14, 18, 20


def in_launches(folder, cfg, until=99, then=None, **how):
    """Trains; returns the final state, the steps at which launches ended and the metrics of each of their steps."""
    e, ends, rows = experiment(cfg), [], {}
    with Run(e, folder, **how) as run:
        state = run.start()
        for batch in run.batches():
            (size,) = {len(x) for x in batch.values()}
            first = run.done - size
            state, found = e.train_step(state, batch)
            ends.append(run.done)
            rows |= {first + 1 + i: jax.tree.map(lambda x, i=i: x[i], found) for i in range(run.done - first)}
            run.log("train", found)
            if run.due(e.cfg.eval_every):
                run.log("valid", run.measure(state, "valid"))
            if run.done == until:
                then()
            state = run.save(state)
        return run.finish(state), ends, rows


def test_steps_of_a_launch_are_as_if_alone(whole, tmp_path):
    """Metrics and parameters of each step; the log's lines as of a run of single steps."""
    final, ends, rows = in_launches(tmp_path / "launches", config(**LAUNCHED))
    assert ends == [4, 8, 10, 14, 18, 20]
    assert list(rows) == list(range(1, 21))
    for step, row in rows.items():
        for name, pair in row.items():
            np.testing.assert_allclose(pair, whole.metrics[step][name], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(final.params), jax.tree.leaves(whole.final.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    train(tmp_path / "single", config(**{**LAUNCHED, "steps_per_launch": None}))
    launched, single = (lines(tmp_path / name) for name in ("launches", "single"))
    for a, b in zip(launched, single, strict=True):
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        assert a["values"] == pytest.approx(b["values"], rel=1e-6)


@pytest.mark.parametrize("then, saved", [(kill, 10), (terminate, 14)])
def test_launches_resume_to_the_bit(tmp_path, then, saved):
    cfg = config(**LAUNCHED)
    expected, *_ = in_launches(tmp_path / "a", cfg)
    with pytest.raises(Killed if then is kill else SystemExit):
        in_launches(tmp_path / "b", cfg, 14, then)
    assert steps(tmp_path / "b")[-1] == saved
    final, ends, _ = in_launches(tmp_path / "b", cfg)
    assert ends == [step for step in (4, 8, 10, 14, 18, 20) if step > saved]
    same(final, expected)
    assert (tmp_path / "b" / "metrics.jsonl").read_bytes() == (tmp_path / "a" / "metrics.jsonl").read_bytes()


def test_not_finite_within_a_launch_stops_before_it(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="step 6: the gradient of dense/kernel is not finite.*checkpoint 5 is kept"):
        in_launches(folder, config(**LAUNCHED, poison=(6, 6, "kernel")))
    assert steps(folder) == [5]
    kept = state_of(folder)
    assert int(kept.step) == 5
    for a, b in zip(jax.tree.leaves(kept.params), jax.tree.leaves(whole.states[5].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("policy, skipped", [("skip", 2), ("rollback", 0)])
def test_not_finite_within_a_launch_and_on(tmp_path, policy, skipped):
    """As in single steps: the same parameters in the end, within rounding."""
    cfg = config(**LAUNCHED, poison=(6, 7, "loss") if skipped else (16, 16, "loss"), not_finite=policy)
    final, ends, _ = in_launches(tmp_path / "launches", cfg)
    assert ends == ([4, 8, 10, 14, 18, 20] if skipped else [4, 8, 10, 14, 18, 20, 18, 20])
    alone = train(tmp_path / "single", {**cfg, "steps_per_launch": None})
    assert (int(final.step), int(final.skipped)) == (20, skipped) == (int(alone.step), int(alone.skipped))
    for a, b in zip(jax.tree.leaves(final.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_trace_begins_and_ends_with_a_launch(tmp_path):
    final, ends, _ = in_launches(tmp_path / "run", config(**LAUNCHED), profile=(5, 7))
    assert ends == [4, 5, 7, 8, 10, 14, 18, 20] and int(final.step) == 20
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("value, why", [(0, "at least 1"), (2.5, "a whole number")])
def test_a_launch_has_a_whole_number_of_steps(tmp_path, value, why):
    with pytest.raises(UserError, match=f"steps_per_launch = {value}: {why}"):
        train(tmp_path / "run", config(steps_per_launch=value))


# When to save


def test_a_checkpoint_after_so_many_seconds(tmp_path, monkeypatch):
    """A clock that moves a second a step: saved at 3, 6, 8 (which is due anyhow), 11, 14, 16, ..."""
    clock = {}

    def tick(run, state, found):
        clock[id(run)] = run.done

    monkeypatch.setattr(run_module.Clock, "elapsed", lambda self: max(clock.values(), default=0))
    seen = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, *_: seen.append((self.folder.name, step)))
    train(tmp_path / "run", config(save_seconds=3, save_every=8, best={"metric": None}), before_save=tick)
    assert [step for _, step in seen] == [3, 6, 8, 11, 14, 16, 19, 20]


def test_some_checkpoints_stay(tmp_path):
    train(tmp_path / "run", config(save_every=1, keep=2, keep_every=6))
    assert steps(tmp_path / "run") == [6, 12, 18, 19, 20]


# Mistakes


def test_another_config_is_refused_or_forced(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, before_save=at(6, kill))
    other = config(optim={"peak_lr": 0.01}, log_every=4)
    with pytest.raises(UserError) as error:
        train(folder, other)
    assert "optim.peak_lr: 0.05 -> 0.01; log_every: 3 -> 4." in str(error.value)
    assert "--resume=force" in str(error.value)
    with pytest.raises(UserError, match="--resume=forse"):
        train(folder, other, resume="forse")
    final = train(folder, other, resume="force")
    assert int(final.step) == 20
    same(train(folder, other), final)
    assert json.loads((folder / "config.json").read_text())["config"]["optim"]["peak_lr"] == 0.01
    assert [v["step"] for v in lines(folder) if v["split"] == "train"] == [3, 4, 8, 12, 16, 20]


# What made a run


def about(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_history_of_attempts(tmp_path, capsys):
    """A start, one after a kill, a forced one: which config and code each had, from which step."""
    folder, other = tmp_path / "run", config(optim={"peak_lr": 0.01})
    for _ in range(2):
        with pytest.raises(Killed):
            train(folder, before_save=at(10, kill))
    train(folder, other, resume="force")
    history = about(folder)["attempts"]
    assert [attempt["step"] for attempt in history] == [0, 8, 8]
    assert [attempt["changed"] for attempt in history] == [[], [], ["optim.peak_lr: 0.05 -> 0.01"]]
    first, second, third = (attempt["config"] for attempt in history)
    assert first == second != third == identity.digest(other)
    assert "the config has changed since: optim.peak_lr: 0.05 -> 0.01" in capsys.readouterr().out
    assert about(folder)["run"] and about(folder)["sources"]["research/run/run.py"]


def test_a_forced_start_of_a_finished_run_leaves_what_made_it(whole, tmp_path, capsys):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    was = everything(folder)
    same(train(folder, config(optim={"peak_lr": 0.01}), resume="force"), whole.final)
    assert everything(folder) == was
    assert "nothing is left to do; config.json still says what made it" in capsys.readouterr().out


def test_a_mistake_leaves_config_json_as_it_was(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "run", before_save=at(6, kill))
    was = about(tmp_path / "run")
    with pytest.raises(UserError, match="typo"):
        train(tmp_path / "run", config(typo=1), resume="force")
    assert about(tmp_path / "run") == was


def test_edited_code_is_told(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, before_save=at(6, kill))
    as_it_is = sources.imported()
    edited = as_it_is | {"research/core/step.py": "0" * 16}
    monkeypatch.setattr(sources, "imported", lambda: edited)
    with pytest.raises(Killed):
        train(folder, before_save=at(10, kill))
    assert "the code has changed since: research/core/step.py" in capsys.readouterr().out
    assert about(folder)["attempts"][-1]["edited"] == ["research/core/step.py"]
    assert about(folder)["sources"]["research/core/step.py"] == "0" * 16
    train(folder)
    assert "the code has changed" not in capsys.readouterr().out


def test_a_deterministic_run_refuses_other_code(tmp_path, monkeypatch):
    cfg, folder = config(deterministic=True), tmp_path / "run"
    monkeypatch.setattr(determinism, "switch_on", lambda: None)
    with pytest.raises(Killed):
        train(folder, cfg, before_save=at(6, kill))
    edited = sources.imported() | {"research/core/step.py": "0" * 16}
    monkeypatch.setattr(sources, "imported", lambda: edited)
    with pytest.raises(
        UserError, match="deterministic, and its code has changed: research/core/step.py. Resume it with"
    ):
        train(folder, cfg)
    assert int(train(folder, cfg, resume="force").step) == 20


def test_a_run_from_before_attempts_were_recorded(whole, tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(folder, before_save=at(6, kill))
    was = about(folder)
    old = {k: v for k, v in was.items() if k not in ("run", "sources", "attempts")}
    (folder / "config.json").write_text(json.dumps(old))
    same(train(folder), whole.final)
    assert "whether that has changed is not known" in capsys.readouterr().out
    history = about(folder)["attempts"]
    assert history[0]["config"] == was["attempts"][0]["config"] and history[1]["step"] == 4
    assert about(folder)["run"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tracker": 5}, "'tracker': wanted {value, step, stopped}, not 5"),
        ({"tracker": {"value": "x", "step": 4, "stopped": False}}, "'tracker': wanted"),
        ({"tracker": {"value": 1.0, "step": 4}}, "'tracker': wanted"),
        ({"tracker": {"value": 1.0, "step": 4, "stopped": "no"}}, "'tracker': wanted"),
        ({"elapsed": "long"}, "'elapsed': wanted a finite number, not 'long'"),
        ({"rows": [[1]]}, "'rows': wanted a list whose members are each (step, metrics)"),
        ({"rows": [[1, {"loss": 2.0}]]}, "'rows': wanted a list"),
        ({"report": {"lines": 3, "baselines": {}}}, "'report': wanted lines and baselines"),
    ],
)
def test_what_a_checkpoint_says_of_a_run_is_checked(tmp_path, monkeypatch, changes, words):
    """It may be a stranger's, and its checksum is then of what the stranger wrote."""
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, step, state, meta: save(self, step, state, {**meta, **changes})
    )
    with pytest.raises(Killed):
        train(tmp_path / "run", before_save=at(6, kill))
    monkeypatch.undo()
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        train(tmp_path / "run")
    assert "checkpoints/4: its metadata, " in str(caught.value) and "\n" not in str(caught.value)


def test_compiling_is_counted_of_each_run_alone(tmp_path, capsys):
    """What the process compiled before, for another run or a notebook's own use, is not this run's."""
    seconds = "/jax/core/compile/backend_compile_duration"
    for name in ("one", "two"):
        device._cache_events[seconds] += 1000.0
        before = device.compiled_so_far()[seconds]
        train(tmp_path / name)
        told = float(re.search(r"first step done; (\d+\.\d) s of compiling", capsys.readouterr().out)[1])
        assert 0 < told + 0.05 and told <= device.compiled_so_far()[seconds] - before + 0.05


def test_a_checkpoint_of_another_seed_is_refused(whole, tmp_path):
    """Put into the folder by hand; the config's own comparison cannot see it."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with pytest.raises(Killed):
        train(ours, before_save=at(6, kill))
    train(theirs, config(seed=7))
    shutil.copytree(theirs / "checkpoints" / "20", ours / "checkpoints" / "20")
    with pytest.raises(UserError, match="20 does not belong here: it was saved by another run"):
        train(ours)
    assert steps(ours) == [4, 20]


@pytest.mark.parametrize("changes", [{}, {"save_every": 1, "eval_every": 1}, {"num_steps": 3}])
def test_unread_key_leaves_nothing(tmp_path, changes):
    with pytest.raises(UserError, match="config key typo = 1 is read by nothing"):
        train(tmp_path / "run", config(typo=1, **changes))
    assert not list(tmp_path.iterdir())


def test_mistake_leaves_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="typo"):
        train(tmp_path, config(typo=1, save_every=1))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_unread_key_of_a_run_that_exists_destroys_nothing(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "run", before_save=at(6, kill))
    with pytest.raises(UserError, match="typo"):
        train(tmp_path / "run", config(typo=1), resume="force")
    assert 4 in steps(tmp_path / "run") and lines(tmp_path / "run")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_steps": 0, "optim": {"warmup": 0}}, "num_steps = 0: at least 1"),
        ({"num_steps": 10**30}, "num_steps = 1000000000000000000000000000000: below 2"),
        ({"keep": 0}, "keep = 0: at least 1"),
        ({"keep_every": 0}, "keep_every = 0: at least 1"),
        ({"save_seconds": "soon"}, "save_seconds = 'soon': at least 1"),
        ({"mesh": {"data": 16}}, "does not fit 8 device"),
        ({"best": {"metric": "vaild/loss"}}, "best.metric = 'vaild/loss': .* did you mean 'valid'"),
        ({"best": {"metric": "valid/los"}}, "best.metric = 'valid/los': valid has no such metric; did you mean 'loss'"),
        ({"best": {"metric": "valid/belu"}}, "best.metric = 'valid/belu': valid has no such metric"),
        ({"best": {"patience": -3}}, "best.patience = -3: steps, at least 0"),
        ({"num_steps": -1, "optim": {"warmup": 0}}, "num_steps = -1: at least 1"),
        ({"save_seconds": float("nan")}, "save_seconds = nan: at least 1"),
        ({"log_every": -3}, "log_every = -3: steps, at least 0"),
        ({"save_every": -3}, "save_every = -3: steps, at least 0"),
        ({"best": {"mode": "lowest"}}, "best.mode = 'lowest': 'min' or 'max'"),
        ({"best": {"metric": None, "patience": 3}}, "best.patience = 3 needs a best.metric"),
    ],
)
def test_mistakes_leave_nothing(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(tmp_path / "run", config(eval_every=1, **changes))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_deterministic_run_goes_on_only_where_its_bits_would_be_the_same(whole, tmp_path, monkeypatch):
    cfg, folder = config(deterministic=True), tmp_path / "run"
    monkeypatch.setattr(determinism, "switch_on", lambda: None)
    with pytest.raises(Killed):
        train(folder, cfg, before_save=at(6, kill))
    as_it_is = determinism.fingerprint
    monkeypatch.setattr(determinism, "fingerprint", lambda mesh: as_it_is(mesh) | {"jaxlib": "0.0.1"})
    with pytest.raises(UserError, match="would not go on to the bit: jaxlib: .* then, 0.0.1 now.*--resume=force"):
        train(folder, cfg)
    assert steps(folder) == [4]
    monkeypatch.setattr(determinism, "fingerprint", as_it_is)
    same(train(folder, cfg), whole.final)


@pytest.mark.parametrize("content", ["", "[]", '{"config"', "{}"])
def test_unreadable_config_of_a_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json: "):
        train(tmp_path)


# The profiler


def test_profile_stops_with_the_run(tmp_path):
    with pytest.raises(UserError, match="--profile=2:3: there are but 2 steps to go"):
        train(tmp_path / "run", config(num_steps=2, optim={"warmup": 0}), profile=(2, 3))
    assert not list(tmp_path.iterdir())
    train(tmp_path / "run", config(num_steps=2, optim={"warmup": 0}), profile=(1, 99))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


# A SIGTERM in an evaluation


@pytest.mark.parametrize(("step", "batch"), [(10, 1), (10, 2), (20, 2)])
def test_an_evaluation_is_left_between_batches_and_made_again(tmp_path, whole, capsys, step, batch):
    with pytest.raises(SystemExit) as left:
        train(tmp_path / "run", e=terminated(BASE, step, batch))
    assert left.value.code == PREEMPTED and steps(tmp_path / "run")[-1] == step
    assert f"saved step {step} and left its evaluation" in capsys.readouterr().out
    assert [line["step"] for line in lines(tmp_path / "run") if line["split"] == "valid"] == [5, 10, 15, 20][
        : step // 5 - 1
    ]
    same(train(tmp_path / "run"), whole.final)
    assert lines(tmp_path / "run") == lines(whole.folder)
    same(best(tmp_path / "run"), best(whole.folder))
    same(train(tmp_path / "run"), whole.final)  # finished
    assert lines(tmp_path / "run") == lines(whole.folder)


def test_it_may_be_left_again_and_in_a_later_split(tmp_path, whole):
    def two_splits(e):
        return dataclasses.replace(e, evals={**e.evals, "test": e.evals["valid"]})

    train(tmp_path / "whole", e=two_splits(experiment(BASE)))
    for batch in (5, 2):  # in test, then again in test, which is measured first; valid has three batches
        with pytest.raises(SystemExit):
            train(tmp_path / "run", e=two_splits(terminated(BASE, 10, batch)))
        assert [x["split"] for x in lines(tmp_path / "run") if x["step"] == 10] == ["valid"]
    same(train(tmp_path / "run", e=two_splits(experiment(BASE))), whole.final)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_what_was_measured_again_and_lost_is_not_logged_twice(tmp_path, whole):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", e=terminated(BASE, 10, 1))
    with pytest.raises(Killed):
        train(tmp_path / "run", before_save=at(11, kill))  # before the next checkpoint, at 12
    same(train(tmp_path / "run"), whole.final)
    assert lines(tmp_path / "run") == lines(whole.folder)


def test_early_stopping_in_what_was_left(tmp_path):
    """The value that ends the run is measured after the resume."""
    cfg = config(best={"patience": 5})
    worse = {5: 1.0, 10: 2.0}.get
    with pytest.raises(SystemExit):
        train(tmp_path / "run", cfg, valid=worse, e=terminated(cfg, 10, 2))
    with Run(experiment(cfg), tmp_path / "run") as run:
        run.start()
        assert [line["step"] for line in lines(tmp_path / "run") if line["split"] == "valid"] == [5, 10]


def test_an_evaluator_is_left_between_its_batches_too(tmp_path, whole):
    """It computes from whole outputs, here a constant in three batches; the SIGTERM comes in its second."""

    def evaluating(ends):
        seen = []

        def evaluator(state, split, folder, after_batch):
            for i in range(3):
                if ends and int(state.step) == 10 and i == 1:
                    terminate()
                after_batch()
                seen.append(int(state.step))
            return Evaluated({"three": 3.0})

        return dataclasses.replace(experiment(BASE), evaluator=evaluator, judged=("three",)), seen

    train(tmp_path / "whole", e=evaluating(False)[0])
    e, seen = evaluating(True)
    with pytest.raises(SystemExit) as left:
        train(tmp_path / "run", e=e)
    assert left.value.code == PREEMPTED and seen == [5, 5, 5, 10]
    same(train(tmp_path / "run", e=evaluating(False)[0]), whole.final)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
