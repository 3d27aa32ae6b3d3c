"""A step comes again to the bit, what spoilt it is named, and the run's directory is left as it was."""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import config, mesh, metrics, optim, state
from research.core.config import track_reads
from research.core.experiment import Experiment
from research.core.step import Step, advance, update
from research.data.pipeline import Arrays, TrainBatches
from research.run import reopen, run
from research.run.checkpoint import Checkpoints
from research.util.errors import UserError
from tools import cli
from tools.verbs import replay

BASE = {
    **config.RUN,
    "name": "toy/linear",
    "seed": 0,
    "optim": {**config.OPTIM, "name": "sgd", "peak_lr": 0.05, "schedule": "constant"},
    "mesh": {"data": 1},
    "num_steps": 12,
    "log_every": 1,
    "eval_every": 0,
    "save_every": 3,
    "keep": 9,
    "best": {"metric": None, "mode": "min", "patience": None},
    "poison": 0,  # the step whose loss has the logarithm of -1
    "spoilt": None,  # the example whose input is NaN
    "reproduces": None,
}


def loss(poison, step, params, model_state, batch, key):
    """Squares, of inputs with noise: the keys must come again, too."""
    p = params["dense"]
    x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)
    found = metrics.pair(jnp.square(x @ p["kernel"] + p["bias"] - batch["y"]))
    wrong = jnp.log(jnp.where(step + 1 == poison, -1.0, 1.0)) if poison else 0.0  # the line that is to be found
    return {"loss": (*found, 1.0), "wrong": (wrong * p["bias"], 1.0, 1.0)}, ({"loss": found}, model_state)


def experiment(cfg):
    cfg = track_reads(cfg)
    draw = np.random.default_rng(0).normal
    data = {"x": draw(size=(24, 3)).astype("f"), "y": draw(size=24).astype("f")}
    if cfg.spoilt is not None:
        data["x"][cfg.spoilt, 1] = np.nan
    tx = optim.make(cfg.optim, cfg.num_steps)
    how, poison = {k: cfg.optim[k] for k in ("accumulate", "clip_norm", "ema")}, cfg.poison
    assert how.pop("ema") == 0
    cfg.mark("eval_every")

    def train_step(state, batch):
        state, found = update(state, batch, partial(loss, poison, state.step), tx, **how)
        return advance(state), found

    return Experiment(
        cfg=cfg,
        train=TrainBatches(Arrays(data), 8, cfg.seed),
        evals={},
        init_fn=lambda key: {"params": {"dense": {"kernel": jax.random.normal(key, (3,)), "bias": jnp.ones(())}}},
        tx=tx,
        train_step=Step(train_step, cfg.not_finite),
        eval_step=None,
        predictor=None,
    )


def train(folder, **changes):
    """Trains the toy with another config -> the run's directory."""
    e = experiment({**BASE, **changes, "optim": {**BASE["optim"], **changes.get("optim", {})}})
    with run.Run(e, folder) as r:
        now = r.start()
        for batch in r.batches():
            now, found = e.train_step(now, batch)
            r.log("train", found)
            now = r.save(now)
        r.finish(now)
    return folder


def saved(folder, step):
    """A checkpoint's state."""
    e = experiment(reopen.load_config(folder))
    target, _ = state.abstract(e.init_fn, e.tx, mesh.make_mesh({"data": 1}, jax.devices()[:1]))
    place = Checkpoints(folder / "checkpoints")
    found, _ = place.restore(target, step)
    place.close()
    return found


def contents(folder):
    return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in folder.rglob("*")}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    build = reopen.build
    monkeypatch.setattr(
        reopen, "build", lambda name, cfg: (experiment if name == "toy/linear" else partial(build, name))(cfg)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that step 8 ended."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(UserError, match="almanac replay .* --step 8"):
        train(folder, poison=8)
    return folder


# To the bit


def test_a_step_comes_again_and_nothing_is_changed(whole):
    before = contents(whole)
    found = replay.replay(whole, 9)
    assert contents(whole) == before
    assert (found["finite"], found["first"], found["nan_trace"], found["start"]) == (True, None, [], 6)
    assert found["logged"] == {} and found["notes"] == []
    assert found["digest"] == replay.digest(saved(whole, 9))
    assert found["digest"] != replay.digest(saved(whole, 6))
    assert replay.replay(whole, 9) == found


def test_it_begins_where_it_is_told_to(whole):
    expected = replay.digest(saved(whole, 9))
    for checkpoint in (0, 3):
        found = replay.replay(whole, 9, checkpoint)
        assert (found["start"], found["digest"]) == (checkpoint, expected)


def test_a_difference_from_the_log_is_told(whole, tmp_path):
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    copy = tmp_path / "run"
    train(copy)
    for line in lines:
        if line["step"] == 9:
            line["values"]["loss"] += 1
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = replay.replay(copy, 9)
    (logged, ours), *others = found["logged"].values()
    assert list(found["logged"]) == ["loss"] and logged == pytest.approx(ours + 1) and not others
    assert "in the log" in "\n".join(replay.lines(found))


def test_the_batch_is_told(whole):
    """Step 4 begins the second epoch of 24 examples in batches of 8."""
    stream = experiment(BASE).train
    batch = replay.replay(whole, 4)["batch"]
    np.testing.assert_array_equal(stream.source.arrays["x"][batch["examples"]], stream.batch(3)["x"])
    assert batch["epochs"] == [1] * 8 and batch["not finite"] == []
    x = batch["arrays"]["x"]
    assert (x["min"], x["max"]) == (stream.batch(3)["x"].min(), stream.batch(3)["x"].max())


def test_gradients_and_updates_by_hand(whole):
    """SGD: an update is the rate times its gradient, and the gradients' norms make up the whole norm."""
    found = replay.replay(whole, 9)
    rows = {row["path"]: row for row in found["parameters"]}
    assert set(rows) == {"dense/kernel", "dense/bias"}
    total = sum(row["gradient"] ** 2 for row in rows.values()) ** 0.5
    assert total == pytest.approx(found["metrics"]["grad_norm"], rel=1e-6)
    for row in rows.values():
        assert row["update"] == pytest.approx(0.05 * row["gradient"], rel=1e-4)
        assert row["not finite"] == row["gradient not finite"] == 0


def test_gradients_are_those_before_clipping(tmp_path):
    found = replay.replay(train(tmp_path / "run", optim={"clip_norm": 1e-3, "accumulate": 2}), 2, 0)
    total = sum(row["gradient"] ** 2 for row in found["parameters"]) ** 0.5
    assert total == pytest.approx(found["metrics"]["grad_norm"], rel=1e-6) and total > 1e-2


# What is not finite


def test_the_step_that_stopped_a_run(stopped, capsys):
    before = contents(stopped)
    told = json.loads((stopped / "not_finite.json").read_text())
    found = replay.replay(stopped, told["step"])
    assert (found["finite"], found["first"], found["start"]) == (False, told["what"], told["checkpoint"])
    assert found["batch"]["examples"] == told["examples"]
    line = next(i for i, text in enumerate(open(__file__), 1) if "the line that is to be found" in text)
    assert found["nan_trace"][0] == "NaN made by log, in jvp()"
    assert found["nan_trace"][1].startswith(f"at tests/tools/verbs/test_replay.py:{line}:")
    assert {row["path"]: row["gradient not finite"] for row in found["parameters"]} == {
        "dense/bias": 1,
        "dense/kernel": 0,
    }
    out = []
    for _ in range(2):
        assert cli.main(["replay", str(stopped), "--step", "8"]) == 1
        out.append(capsys.readouterr().out)
    assert out[0] == out[1] and "step 8 is not finite: the gradient of dense/bias" in out[0]
    (marked,) = (text for text in out[0].splitlines() if text.endswith("<- first"))
    assert marked.startswith("dense/bias")
    assert contents(stopped) == before


def test_an_input_that_is_not_finite_is_named(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="almanac replay"):
        train(folder, spoilt=17)
    step = json.loads((folder / "not_finite.json").read_text())["step"]
    found = replay.replay(folder, step, 0)
    assert [found["batch"]["examples"][row] for row in found["batch"]["not finite"]] == [17]
    assert found["nan_trace"][:2] == ["NaN in an input", "at batch/x"]
    assert "NOT FINITE: examples 17" in "\n".join(replay.lines(found))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_steps_after_one_that_was_not_made(policy, tmp_path):
    """Step 8 was skipped, or undone with step 7: step 9 follows checkpoint 6 as it did in the run."""
    folder = train(tmp_path / "run", poison=8, not_finite=policy)
    found = replay.replay(folder, 9, 6)
    assert (found["finite"], found["digest"]) == (True, replay.digest(saved(folder, 9)))
    again = replay.replay(folder, 8, 6)
    assert not again["finite"] and again["first"] == "the gradient of dense/bias"


# Mistakes


def test_mistakes_are_one_line(whole, stopped, tmp_path, capsys):
    for folder, words, expected in [
        (whole, ["--step", "13"], "--step=13: .*run has the steps 1 to 12"),
        (whole, ["--step", "0"], "has the steps 1 to 12"),
        (
            whole,
            ["--step", "3"],
            "no whole checkpoint before it; the oldest of .* is 3. --checkpoint=0 starts at the seed",
        ),
        (whole, ["--step", "9", "--checkpoint", "5"], "no whole checkpoint 5; the oldest of .* is 3"),
        (whole, ["--step", "9", "--checkpoint", "9"], "--checkpoint=9: for step 9, one from 0 to 8"),
        (stopped, ["--step", "9"], "--step=9: step 8 is not finite and ended the run; replay that one"),
        (tmp_path, ["--step", "1"], "is no run directory: it has no config.json"),
        (whole, ["--step", "1", "--device", "abacus"], "--device=abacus: one of cpu, gpu, tpu"),
    ]:
        assert cli.main(["replay", str(folder), *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("almanac: ")
        assert re.search(expected, line), line


def test_a_damaged_checkpoint_is_passed_over_and_left(tmp_path):
    folder = train(tmp_path / "run")
    expected = replay.digest(saved(folder, 9))
    for file in (folder / "checkpoints" / "6" / "state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-1])
    before = contents(folder)
    found = replay.replay(folder, 9)
    assert (found["start"], found["digest"]) == (3, expected)
    with pytest.raises(UserError, match="no whole checkpoint 6; the oldest of .* is 3; 6 is damaged"):
        replay.replay(folder, 9, 6)
    assert contents(folder) == before


# A real run, with its own command


def test_a_language_model_whose_rate_is_too_high(tmp_path, capsys):
    """Weights of 1e30: their squares are too large for float32, in the first layer that normalises them."""
    folder = str(tmp_path / "run")
    small = ["mesh.data=1", "model.num_layers=1", "model.width=16", "optim.peak_lr=1e30", "optim.clip_norm=0"]
    assert cli.main(["train", "language_model/tiny", "--workdir", folder, *(f"--config.{c}" for c in small)]) == 2
    told = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    capsys.readouterr()
    assert cli.main(["replay", folder, "--step", str(told["step"])]) == 1
    out = capsys.readouterr().out
    assert f"step {told['step']} is not finite: {told['what']}\n" in out
    assert "Inf made by square, in jvp(GPT)/" in out and "research/models/text/gpt.py:" in out
    assert all(word in out for word in ("tokens/embedding", "<- first", "digest of the state after it: "))
