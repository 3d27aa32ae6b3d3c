"""`almanac doctor DIR`: an intact run has no faults, each fault has its remedy, and the next start does as predicted."""

import json
import os
import shutil
import warnings

import pytest

from research.run.lock import Lock
from tools import cli
from tools.doctor import run_directory


@pytest.fixture
def killed(run):
    """As a SIGKILL after step 9 would leave it."""
    for path in (run / "checkpoints" / "12", run / "best" / "12"):
        shutil.rmtree(path)
    return run


@pytest.fixture
def told(capsys):
    """told(folder) -> (status, {row: value}, {row: remedy}), read from what the command prints; nothing is changed."""

    def run(folder):
        was = everything(folder)
        capsys.readouterr()
        status = cli.main(["doctor", str(folder)])
        values, remedies, name = {}, {}, ""
        *lines, end = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if str(folder) not in line) <= 100
        for line in lines:
            name, text = line[:20].strip() or name, line[21:]
            if text.startswith("WRONG: "):
                remedies[name] = text[7:]
            elif name in remedies:
                remedies[name] += f" {text}"
            else:
                values[name] = f"{values[name]} {text}" if name in values else text
        assert end == (f"{len(remedies)} wrong; each has its remedy above" if remedies else "no faults")
        assert everything(folder) == was and status == int(bool(remedies))
        return status, values, remedies

    return run


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def edit(path, change):
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def test_a_finished_run_is_sound(trained, told):
    status, values, remedies = told(trained)
    assert status == 0 and not remedies
    assert [*values] == [
        *("run directory", "config", "checkpoints/6", "checkpoints/9", "checkpoints/12", "best/12"),
        *("attempts", "metrics.jsonl", "timing.jsonl", "next start"),
    ]
    assert values["next start"] == "the run is finished at step 12"
    assert values["metrics.jsonl"] == "5 lines" and values["timing.jsonl"] == "3 lines"  # trained 4, 8, 12; valid 6, 12
    assert values["checkpoints/12"].startswith("whole: ") and "language_model/tiny" in values["config"]


def test_a_killed_run_is_sound(killed, told):
    (killed / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
    shutil.copytree(killed / "checkpoints" / "6", killed / "checkpoints" / "3.damaged")
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "spl')
    status, values, _ = told(killed)
    assert status == 0
    assert values["next start"] == "resumes at step 9 of 12"
    assert values["half-written"] == "checkpoints/12.orbax-checkpoint-tmp: the next start removes them"
    assert values["set aside"] == "checkpoints/3.damaged: not used"
    later = "2 of later steps than the newest whole checkpoint"
    assert values["metrics.jsonl"] == f"5 lines; {later} and one cut short: will be trimmed on resume"


def test_before_the_first_checkpoint(killed, told):
    shutil.rmtree(killed / "checkpoints")
    (killed / "timing.jsonl").unlink()
    status, values, _ = told(killed)
    assert status == 0 and values["next start"] == "resumes at step 0 of 12" and values["timing.jsonl"] == "none"
    assert values["metrics.jsonl"].startswith("5 lines; 5 of later steps")


def test_a_damaged_checkpoint_is_named_and_a_start_does_what_doctor_predicts(run, told, trained, capsys, train):
    damage(next((run / "checkpoints" / "12" / "state" / "d").iterdir()))
    status, values, remedies = told(run)
    assert status == 1 and [*remedies] == ["checkpoints/12"]
    assert values["checkpoints/12"].startswith("damaged: state/d/") and "has changed" in values["checkpoints/12"]
    assert remedies["checkpoints/12"] == "the next start sets it aside and resumes at 9"
    assert values["next start"] == "resumes at step 9 of 12"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert train(run, trained.parent / "text.txt") == 0
    assert "resumed at step 9 of 12" in capsys.readouterr().out
    status, values, _ = told(run)
    assert status == 0 and values["set aside"].startswith("checkpoints/12.damaged")
    assert (run / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_which_damage_matters_how(run, told):
    damage(run / "checkpoints" / "6" / "meta" / "metadata")
    damage(run / "best" / "12" / "state" / "_METADATA")
    _, values, remedies = told(run)
    assert remedies == {
        "checkpoints/6": "rename it to 6.damaged, so that it is never restored",
        "best/12": "rename it: the last checkpoint is then used in its place",
    }
    assert values["next start"] == "the run is finished at step 12"
    for step in (9, 12):
        (run / "checkpoints" / str(step) / "checksums" / "metadata").unlink()
    _, values, remedies = told(run)
    assert "checksums/metadata is missing" in values["checkpoints/9"]
    assert remedies["checkpoints/12"].startswith("none is whole: ")
    assert values["next start"] == "resumes at step 0 of 12"


@pytest.mark.parametrize(
    "change, value, remedy",
    [
        (lambda about: about["config"].update(colour="red"), "", "the current code has no colour: use commit"),
        (
            lambda about: about["config"]["optim"].pop("peak_lr"),
            "",
            "the current code also has optim.peak_lr: use commit",
        ),
        (lambda about: about.update(name="language_model/tyny"), "", "there is no experiment 'language_model/tyny'"),
        (lambda about: about.pop("config"), "", "restore it from a copy"),
    ],
    ids=["unknown key", "new key", "no experiment", "no config"],
)
def test_a_config_that_today_s_code_does_not_know(run, told, change, value, remedy):
    edit(run / "config.json", change)
    status, values, remedies = told(run)
    assert status == 1 and [*remedies] == ["config"]
    assert remedies["config"].startswith(remedy) and values["config"].startswith(value)


def test_a_config_that_is_no_json(run, told):
    (run / "config.json").write_text('{"config": ')
    assert told(run)[2]["config"].startswith("restore it from a copy")


def lines(*rows):
    return "".join(json.dumps({"step": s, "split": split, "values": {}}) + "\n" for s, split in rows)


GOOD = (4, "train"), (6, "valid"), (8, "train"), (12, "train"), (12, "valid")


@pytest.mark.parametrize(
    "text, fault",
    [
        (lines(*GOOD), ""),
        (lines(*GOOD[:2]) + "{}\n" + lines(*GOOD[2:]), "line 3: 'step' is missing"),
        (
            lines(*GOOD[:2]) + '{"step": "8", "split": "train", "values": {}}\n' + lines(*GOOD[2:]),
            "line 3: 'step': wanted a whole number from 0, not '8'",
        ),
        (lines(*GOOD) + "[]\n", "line 6: wanted an object, not []"),
        (lines(*GOOD[:3], GOOD[1], *GOOD[3:]), "line 4 repeats step 6 valid"),
        (lines(GOOD[0], GOOD[2], GOOD[1], *GOOD[3:]), "line 3 has step 6 after 8"),
        (lines(GOOD[0], *GOOD[3:]), "there is no line of step 8 train"),
        ("", "there is no line of step 4 train"),
        (lines(*GOOD, (14, "valid")), "the run is finished, and ends before these lines"),
        (lines(*GOOD) + '{"st', "the run is finished, and ends before these lines"),
    ],
)
def test_each_line_once_and_in_order(tmp_path, text, fault):
    """A log every 4 steps, finished at 12."""
    (tmp_path / "metrics.jsonl").write_text(text)
    row = run_directory.log(tmp_path / "metrics.jsonl", 12, True, 4)
    assert row.remedy == (f"{fault}: restore it from a copy, or see what wrote it" if fault else "")


def test_what_comes_after_the_checkpoint_is_no_fault_of_a_run_that_goes_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(lines(*GOOD))
    row = run_directory.log(tmp_path / "metrics.jsonl", 7, False, 4)
    assert not row.remedy and "3 of later steps" in row.value and "trimmed on resume" in row.value


def test_a_log_that_is_gone(run, told):
    (run / "metrics.jsonl").unlink()
    (run / "timing.jsonl").write_text('{"step": 4}\nnonsense\n')
    _, _, remedies = told(run)
    assert remedies["metrics.jsonl"].startswith("it is missing") and "line 2: not JSON" in remedies["timing.jsonl"]


def test_a_step_that_was_not_finite(killed, told):
    about = {"step": 10, "what": "the gradient of params/tokens/embedding", "examples": [1], "checkpoint": 9}
    (killed / "not_finite.json").write_text(json.dumps(about))
    _, values, remedies = told(killed)
    assert values["not finite"] == "step 10: the gradient of params/tokens/embedding"
    assert f"almanac replay {killed} --step 10" in remedies["not finite"]
    edit(killed / "not_finite.json", lambda about: about.update(step=8))
    status, values, _ = told(killed)
    assert status == 0 and values["not finite"].endswith("; since passed")
    (killed / "not_finite.json").write_text("{")
    assert told(killed)[2]["not finite"] == "remove it"


def test_who_trains_there(run, told):
    lock = Lock(run)
    try:
        assert str(os.getpid()) in told(run)[1]["run directory"]
    finally:
        lock.release()
    assert told(run)[1]["run directory"] == str(run)


def test_a_folder_that_is_no_run(tmp_path, told):
    for folder in (tmp_path, tmp_path / "nowhere"):
        status, _, remedies = told(folder)
        assert status == 1 and remedies["run directory"].startswith("it has no config.json; give")
