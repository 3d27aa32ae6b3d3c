"""`almanac checkpoint`: reads what eight devices saved, names what is damaged, and copies what training goes on from."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.run import checkpoint_files as files
from research.run import manifest
from research.run.checkpoint import Checkpoints
from tools import cli
from tools.verbs import checkpoint

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def said(capsys):
    """said(*argv) -> (status, lines) of `almanac checkpoint`."""

    def run(*argv):
        capsys.readouterr()
        status = cli.main(["checkpoint", *map(str, argv)])
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def refused(capsys):
    """refused(*argv) -> the one line of a mistake."""

    def run(*argv):
        capsys.readouterr()
        assert cli.main(["checkpoint", *map(str, argv)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("almanac: ") and err.count("\n") == 1
        return err

    return run


def save(folder, step=1, **state):
    checkpoints = Checkpoints(folder)
    checkpoints.save(step, jax.tree.map(jnp.asarray, state), {})
    checkpoints.close()
    return folder


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


# list, show, diff


@pytest.mark.parametrize("verb", [["show", "run@best"], ["verify", "run"], ["copy", "run", "other"]])
def test_a_path_from_where_one_stands(run, said, monkeypatch, verb):
    monkeypatch.chdir(run.parent)
    run.rename("run")
    assert said(*verb)[0] == 0


def test_list(trained, said):
    status, lines = said("list", trained)
    assert status == 0
    rows = {line.split()[0]: line.split() for line in lines}
    assert [*rows] == ["checkpoint", "checkpoints/6", "checkpoints/9", "checkpoints/12", "best/12"]
    assert [rows[name][1] for name in [*rows][1:]] == ["kept", "kept", "last", "best"]
    assert int(rows["best/12"][-2]) == len(files.choose(f"{trained}@best").leaves) > 20
    assert "8 x cpu" in json.loads((trained / "config.json").read_text())["devices"]
    assert all(rows[name][-1] == "whole" for name in [*rows][1:])
    assert said("list", trained / "checkpoints")[1][1].split()[0] == "checkpoints/6"


def test_list_tells_the_damaged_the_half_written_and_the_unchecked(run, said):
    shutil.copytree(run / "checkpoints" / "9", run / "checkpoints" / "3.damaged.2")
    (run / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()
    (run / "checkpoints" / "notes").mkdir()
    manifest_of_6 = run / "checkpoints" / "6" / manifest.NAME
    manifest_of_6.unlink()
    next((run / "checkpoints" / "9" / "state" / "d").iterdir()).write_bytes(b"")
    rows = {line.split()[0]: line for line in said("list", run)[1][1:]}
    assert [rows[f"checkpoints/{n}"].split()[1] for n in ("3.damaged.2", "15.orbax-checkpoint-tmp", "12")] == [
        *("damaged", "half-written", "last")
    ]
    assert rows["checkpoints/6"].endswith("unchecked") and "is cut short: 0 of" in rows["checkpoints/9"]
    assert len(rows) == 6


def test_one_device_without_the_experiment_reads_what_eight_saved(trained):
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "-m", "tools.cli", "checkpoint", "verify", str(trained)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.count("whole: ") == 4 and "no damage" in done.stdout, done
    assert "Traceback" not in done.stderr


def test_show_has_known_numbers(tmp_path, said):
    params = {"w": np.array([[3.0, -4.0], [0.0, 0.0]], np.float32), "b": np.array(2, jnp.bfloat16)}
    save(tmp_path, params=params, opt=[np.array([True, False])], key=jax.random.key(7))
    status, lines = said("show", tmp_path)
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["params/w"] == ["float32", "[2,", "2]", "5", "-4", "3", "50.0%", "0"]
    assert rows["params/b"] == ["bfloat16", "[]", "2", "2", "2", "0.0%", "0"]
    assert rows["opt/0"] == ["bool", "[2]", "1", "0", "1", "50.0%", "0"]
    assert rows["params"] == ["2", "5", "0.00", f"{math.sqrt(29):.6g}", "0"]
    words = np.asarray(jax.random.key_data(jax.random.key(7)))
    assert rows["key"][:2] == ["1", "2"]  # of the totals; its words in the table above
    assert next(line for line in lines if line.startswith("key")).split()[4] == f"{words.min():.4g}"


def test_show_filters(trained, said, refused):
    lines = said("show", f"{trained}@6", "--filter", "^params/.*embedding")[1]
    assert [line.split()[0] for line in lines if "embedding" in line] == [
        *("params/position/embedding", "params/tokens/embedding")
    ]
    assert lines[0].endswith("step 6  kept")
    assert "--filter=conv: matches none of" in refused("show", trained, "--filter", "conv")
    assert "--filter=(: no regular expression" in refused("show", trained, "--filter", "(")


def test_numbers_that_are_not_finite_are_counted(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 2)
    found = checkpoint.stats(np.array([[3, np.nan, 0], [-4, np.inf, -np.inf]], np.float32))
    assert (found.low, found.high, found.zeros, found.bad) == (-4, 3, 1, 3) and not math.isfinite(found.norm)
    assert checkpoint.stats(np.array([], np.float32))[0] == 0
    assert math.isnan(checkpoint.stats(np.array([np.nan]))[1])


def test_equal_to_the_bit(trained, said):
    status, lines = said("diff", f"{trained}@12", f"{trained}@best")
    assert status == 0
    leaves = lines[:-2]
    assert all(line.endswith("bitwise equal") for line in leaves)
    assert lines[-1].endswith(f"{len(leaves)} of {len(leaves)} leaves are bitwise equal")


def test_what_differs(tmp_path, said):
    a = save(tmp_path / "a", same=np.ones(2), w=np.float32([3, 4]), shape=np.ones(2), dtype=np.ones(2), gone=np.ones(1))
    b = save(tmp_path / "b", same=np.ones(2), w=np.float32([3, 5]), shape=np.ones(3), dtype=np.ones(2, np.int8))
    status, lines = said("diff", a, b)
    assert status == 1
    rows = dict(line.split(None, 1) for line in lines[:-2])
    assert rows == {
        "same": "bitwise equal",
        "w": "max |a-b| 1, ||a-b||/||a|| 0.2",
        "shape": "float32[2] against float32[3]",
        "dtype": "float32[2] against int8[2]",
        "gone": "float32[1] against absent",
    }
    assert lines[-1].endswith("1 of 5 leaves are bitwise equal")


def test_a_sign_of_zero_is_a_bit():
    assert checkpoint.difference(np.float32([0.0]), np.float32([0.0])) == ""
    assert checkpoint.difference(np.float32([0.0]), np.float32([-0.0])) == "max |a-b| 0, ||a-b||/||a|| inf"
    assert checkpoint.difference(np.float32([np.nan, 1]), np.float32([2, 1])).startswith("max |a-b| nan")


def test_which(run, tmp_path, refused):
    shutil.copytree(run / "checkpoints" / "9", run / "checkpoints" / "9.damaged")
    chosen = {which: str(files.choose(f"{run}{which}")) for which in ("", "@last", "@9", "@9.damaged", "@best")}
    assert [*chosen.values()] == [f"checkpoints/{n}" for n in ("12", "12", "9", "9.damaged")] + ["best/12"]
    assert str(files.choose(str(run / "best"))) == "best/12"
    named = Path(shutil.copytree(run, tmp_path / "run@9"))
    assert str(files.choose(str(named))) == "checkpoints/12"
    assert str(files.choose(f"{named}@6")) == "checkpoints/6"
    assert "has no checkpoint '7'; there are 6, 9, 9.damaged, last, best, 12" in refused("show", f"{run}@7")
    assert "nowhere: no such folder" in refused("list", tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    assert "bare holds no checkpoint" in refused("verify", tmp_path / "bare")


def test_leaves_are_read_a_few_at_a_time(trained, monkeypatch):
    one = files.choose(str(trained))
    at_once = dict(one.arrays(one.leaves))
    monkeypatch.setattr(files, "GROUP", 10_000)
    groups = list(files._groups(one.leaves, one.leaves))
    sizes = [sum(at_once[name].nbytes for name in group) for group in groups]
    assert len(groups) > 10 and all(size <= 10_000 or len(g) == 1 for size, g in zip(sizes, groups, strict=True))
    for name, x in one.arrays(one.leaves):
        np.testing.assert_array_equal(x, at_once[name])


# verify


def injure(path, how):
    content = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_every_file_s_damage_is_named_and_nothing_is_changed(run, said, how):
    step = run / "checkpoints" / "9"
    whole = everything(step)
    for name in [name for name, content in whole.items() if content and name != manifest.NAME]:
        injure(step / name, how)
        hurt = everything(run)
        status, lines = said("verify", f"{run}@9")
        assert status == 1 and lines[0].split() == ["checkpoints/9", "DAMAGED"] and lines[-1] == "1 of 1 damaged"
        assert any(line.strip().startswith(name) for line in lines), (name, lines)
        assert everything(run) == hurt
        (step / name).write_bytes(whole[name])
    assert said("verify", f"{run}@9")[0] == 0


def test_flipped_weights_are_named_by_their_leaf_without_a_manifest(run):
    """Most of a file of arrays is their bits: Orbax would restore them so."""
    one = next(one for one in files.find(run) if one.step == 9)
    (one.path / manifest.NAME).unlink()
    named = set()
    for path in sorted((one.path / "state" / "ocdbt.process_0" / "d").iterdir()):
        content = path.read_bytes()
        for at in np.linspace(len(content) // 8, len(content) - len(content) // 8, 4).astype(int):
            path.write_bytes(content[:at] + bytes([content[at] ^ 32]) + content[at + 1 :])
            lines = files.verify(files.Checkpoint(one.path, "kept"))
            named |= {line.split()[0] for line in lines if "checksum" in line}
        path.write_bytes(content)
    assert named and named <= set(one.leaves)


def test_a_leaf_s_checksum(run, said):
    path = run / "best" / "12" / "checksums" / "metadata"
    checks = json.loads(path.read_text())
    checks["state"]["params/tokens/embedding"][1] ^= 1
    del checks["state"]["key"]
    checks["state"]["params/more"] = 1
    path.write_text(json.dumps(checks))
    manifest.write(run / "best" / "12")
    status, lines = said("verify", run)
    assert status == 1 and "best/12         DAMAGED" in lines and lines[-1] == "1 of 4 damaged"
    assert [line.strip() for line in lines if line.startswith(" ")] == [
        "params/more has a checksum, and is absent",
        "key has no checksum",
        "params/tokens/embedding is damaged: its checksum differs",
    ]


def test_the_metadata_s_checksum(run, said):
    path = run / "checkpoints" / "6" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"elapsed": ', '"elapsed": 1'))
    manifest.write(run / "checkpoints" / "6")
    status, lines = said("verify", f"{run}@6")
    assert status == 1 and lines[1].strip() == "meta: the checksum differs"


def test_a_step_under_another_s_name(run, said):
    (run / "checkpoints" / "6").rename(run / "checkpoints" / "7")
    status, lines = said("verify", f"{run}@7")
    assert status == 1 and [line.strip() for line in lines[1:3]] == [
        "it was saved as step 6, and its folder says 7",
        "step is 6, in the folder of step 7",
    ]


def test_without_a_manifest_the_leaves_are_verified(run, said):
    (run / "checkpoints" / "6" / manifest.NAME).unlink()
    status, lines = said("verify", f"{run}@6")
    assert status == 0 and "no files.json" in lines[0]


def test_set_aside_ones_are_not_looked_into_but_by_name(run, said):
    aside = (run / "checkpoints" / "9").rename(run / "checkpoints" / "9.damaged")
    injure(aside / "meta" / "metadata", "truncate")
    (run / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()
    status, lines = said("verify", run)
    assert status == 0 and lines[-2].endswith("checkpoints/9.damaged, checkpoints/15.orbax-checkpoint-tmp")
    assert said("verify", f"{run}@9.damaged")[0] == 1


def test_a_damaged_one_is_not_shown(run, refused):
    injure(run / "checkpoints" / "9" / "state" / "manifest.ocdbt", "truncate")
    err = refused("show", f"{run}@9")
    assert "checkpoints/9: cannot read its metadata: " in err and "almanac checkpoint verify" in err
    assert "cannot read its metadata" in refused("diff", f"{run}@9", f"{run}@12")


# copy


def test_training_goes_on_from_a_copy(trained, tmp_path, said, capsys, train):
    """The copy of step 6 ends as the run did: the same log, the same last checkpoint, to the bit."""
    status, lines = said("copy", f"{trained}@6", tmp_path / "copy")
    assert status == 0 and lines == [f"{tmp_path / 'copy'}: checkpoints/6"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "copy" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 6]
    assert train(tmp_path / "copy", trained.parent / "text.txt") == 0
    assert "resumed at step 6 of 12" in capsys.readouterr().out
    assert (tmp_path / "copy" / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()
    assert said("diff", f"{trained}@12", f"{tmp_path / 'copy'}@12")[0] == 0


def test_a_whole_run(trained, tmp_path, said):
    was = everything(trained)
    status, lines = said("copy", trained, tmp_path / "deep" / "copy")
    assert status == 0 and lines[0].endswith("checkpoints/6, checkpoints/9, checkpoints/12, best/12")
    made = everything(tmp_path / "deep" / "copy")
    wanted = {name for name in was if name.startswith(("checkpoints", "best"))}
    assert made.keys() == wanted | {"config.json", "metrics.jsonl", "timing.jsonl", "vocabulary.json"}
    assert all(was[name] == content for name, content in made.items()) and everything(trained) == was
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["copy"]


def test_a_checkpoint_brings_the_best_it_refers_to(trained, tmp_path, said):
    assert said("copy", f"{trained}@12", tmp_path / "copy")[1][0].endswith("copy: checkpoints/12, best/12")
    assert said("copy", f"{trained}@best", tmp_path / "best")[1][0].endswith("best: best/12")
    assert (tmp_path / "best" / "config.json").exists() and not (tmp_path / "best" / "checkpoints").exists()


def test_a_folder_of_checkpoints(trained, tmp_path, said):
    assert said("copy", f"{trained / 'checkpoints'}@9", tmp_path / "copy")[0] == 0
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["9"]


def test_nothing_is_overwritten_and_nothing_damaged_is_copied(run, tmp_path, refused):
    (tmp_path / "there").mkdir()
    assert "there exists; copy to another name" in refused("copy", run, tmp_path / "there")
    (tmp_path / "cut.part").mkdir()
    assert "cut.part exists: another copy is in progress" in refused("copy", run, tmp_path / "cut")
    assert "copy to a local folder" in refused("copy", run, "s3://bucket/copy")
    injure(run / "checkpoints" / "9" / "meta" / "metadata", "flip")
    assert "checkpoints/9 is damaged: meta/metadata has changed" in refused("copy", run, tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.part", "run", "there"]


def test_a_copy_that_fails_leaves_nothing(trained, tmp_path, refused, monkeypatch):
    def wrong(source, target, symlinks):
        (target / "state").mkdir(parents=True)

    monkeypatch.setattr(shutil, "copytree", wrong)
    assert "copy.part/checkpoints/9 is not what" in refused("copy", f"{trained}@9", tmp_path / "copy")

    def gone(source, target, symlinks):
        raise shutil.Error([("here", "there", "No such file or directory: 'here'")])

    monkeypatch.setattr(shutil, "copytree", gone)
    assert "9: No such file or directory: 'here'" in refused("copy", f"{trained}@9", tmp_path / "copy")

    def full(source, target, symlinks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    assert "no space left to save under" in refused("copy", f"{trained}@9", tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_only_the_known_noise_is_left_out(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda message: heard.append(str(message.exc_value)))
    files.quiet()

    class Message:
        def __init__(self, text):
            self.exc_value = RuntimeError(text)

    for text in ("Event loop is closed", "another"):
        sys.unraisablehook(Message(text))
    assert heard == ["another"]


def test_a_checkpoint_that_a_run_removes_meanwhile(run, said, refused, monkeypatch):
    verify, find = files.verify, files.find

    def late(one):
        shutil.rmtree(one.path)
        return verify(one)

    monkeypatch.setattr(files, "verify", late)
    status, lines = said("verify", f"{run}@9")
    assert status == 0 and lines == ["checkpoints/9  removed", "no damage"]

    def early(folder):
        found = find(folder)
        shutil.rmtree(run / "checkpoints" / "6")
        return found

    monkeypatch.setattr(files, "find", early)
    assert "checkpoints/6: removed while it was read" in refused("list", run)


def test_average_is_the_mean_and_can_be_evaluated(trained, tmp_path, said, capsys):
    """Of checkpoints 9 and 12, leaf by leaf; the rest is that of 12."""
    status, lines = said("average", trained, "--last", 2, "--out", tmp_path / "mean")
    assert status == 0 and lines == [f"{tmp_path / 'mean'}: the mean of 2 checkpoints of {trained}, of step 9, 12"]
    nine, twelve, mean = (
        files.choose(f"{d}@{w}") for d, w in ((trained, 9), (trained, 12), (tmp_path / "mean", "best"))
    )
    arrays = [dict(one.arrays(one.leaves)) for one in (nine, twelve, mean)]
    assert arrays[2].keys() == arrays[1].keys()
    for name, x in arrays[2].items():
        want = (
            (arrays[0][name].astype(np.float64) + arrays[1][name]) / 2
            if name.startswith("params/")
            else arrays[1][name]
        )
        np.testing.assert_array_equal(x, want.astype(x.dtype), err_msg=name)
    assert (tmp_path / "mean" / "vocabulary.json").read_bytes() == (trained / "vocabulary.json").read_bytes()
    assert cli.main(["evaluate", str(tmp_path / "mean")]) == 0 and "valid/loss" in capsys.readouterr().out
    assert said("verify", tmp_path / "mean")[0] == 0


def test_average_refuses(trained, tmp_path, refused):
    (tmp_path / "there").mkdir()
    assert "there exists" in refused("average", trained, "--out", tmp_path / "there")
    assert "keeps 3 checkpoints, fewer than --last 4" in refused(
        "average", trained, "--last", 4, "--out", tmp_path / "x"
    )
    assert "--last 0: at least 1" in refused("average", trained, "--last", 0, "--out", tmp_path / "x")
    assert "no such folder" in refused("average", tmp_path / "absent", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists() and not (tmp_path / "x.part").exists()
