"""A run on several hosts, from the command line: what it refuses, and whole trainings by real processes."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import launch, options
from research.core import config
from research.util.errors import UserError
from tools.verbs import train

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 500


def parse(*argv):
    return options.parse(argv, argparse.ArgumentParser(allow_abbrev=False))[0]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--hosts=0"], "--hosts=0: a whole number, at least 1"),
        (["--hosts=two"], "--hosts=two: a whole number, at least 1"),
        (["--hosts=2"], "--hosts=2 needs --host-id, too"),
        (["--hosts=2", "--host-id=0"], "--hosts=2 needs --coordinator, too"),
        (["--hosts=2", "--host-id=2", "--coordinator=a:1"], "--host-id=2: from 0 to 1, as --hosts=2 says"),
        (["--hosts=2", "--host-id=-1", "--coordinator=a:1"], "--host-id=-1: a whole number, at least 0"),
        (["--hosts=2", "--host-id=0", "--coordinator=a"], "--coordinator=a: write HOST:PORT"),
        (["--host-id=0"], "--host-id=0 needs --hosts N"),
        (["--coordinator=a:1"], "--coordinator=a:1 needs --hosts N"),
        (["--hosts=auto", "--host-id=0"], "--host-id=0 is detected by --hosts auto; remove it"),
    ],
)
def test_who_takes_part_is_checked(argv, says):
    with pytest.raises(UserError, match=f"^{says}"):
        options.hosts(parse(*argv))


def test_who_takes_part():
    assert options.hosts(parse()) is None
    assert options.hosts(parse("--hosts=auto")) == (None, None, None)
    assert options.hosts(parse("--hosts=3", "--host-id=2", "--coordinator=a:1")) == (3, 2, "a:1")
    assert options.hosts(parse("--hosts=1")) is None  # the last one that is left of several


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "soon"])
def test_a_time_out_is_seconds(text):
    with pytest.raises(UserError, match=f"^--host-timeout={text}: a number of seconds, at least 1"):
        options.timeouts(parse(f"--host-timeout={text}"))
    found = options.timeouts(parse("--stall-timeout=3.5"))
    assert found == {"start_timeout": 120, "host_timeout": 60, "stall_timeout": 3.5}


def test_the_config_is_compared_key_by_key():
    one, other = (launch.host_fingerprint(config.load("language_model/tiny", [f"seed={seed}"])) for seed in (0, 1))
    assert {key for key in one if one[key] != other[key]} == {"--config.seed"}
    assert one["--config.optim.peak_lr"] == "0.01" and one["jax"] and one["commit"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--local-hosts=0"], "--local-hosts=0: a whole number, at least 1"),
        (["--local-hosts=2", "--hosts=2", "--host-id=0", "--coordinator=a:1"], "--local-hosts=2 starts all the hosts"),
        (["--local-hosts=2", "--device=gpu"], "--local-hosts=2 is for the CPU"),
        (["--restarts=x"], "--restarts=x: a whole number, at least 0"),
        (["--restarts=3", "--host-id=1"], "--host-id=1 needs --hosts N"),
    ],
)
def test_what_the_verb_refuses(argv, says):
    with pytest.raises(UserError, match=f"^{says}"):
        train.main(["language_model/tiny", *argv])


def test_the_command_without_an_option():
    words = ["a/b", "--restarts", "3", "--config.x=1", "--restarts=2", "--restarts-not"]
    found = train._command(words, "--restarts")
    assert found[0] == sys.executable and found[-3:] == ["a/b", "--config.x=1", "--restarts-not"]


def test_progress_is_the_newest_checkpoint_and_the_last_whole_line(tmp_path):
    assert train.progress(tmp_path) == "checkpoint 0, log 0"
    for name in ("3", "12", "9", "15.damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    rows = [{"step": step, "split": "train", "values": {}} for step in (8, 14, 20)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows))[:-9])  # the last is cut
    assert train.progress(tmp_path) == "checkpoint 12, log 14"


# Whole trainings

QUICK = ["--config.eval_every=0", "--config.log_every=1"]


def start(folder, *words, steps=12, module=("tools.cli", "train", "language_model/tiny")):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", *module, f"--workdir={folder}", f"--config.num_steps={steps}", *QUICK, *words]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    """-> exit status, stdout, stderr."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return process.returncode, out, err


def log(folder):
    """{(step, split): loss}, each once."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = {(row["step"], row["split"]): row["values"]["loss"] for row in rows}
    assert len(found) == len(rows)
    return found


def until(process, word):
    """Reads on until a line begins with `word`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(word):
            return
    pytest.fail("".join(lines) + process.stderr.read())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    status, _, err = end(start(folder))
    assert status == 0, err
    return log(folder)


def agree(folder, expected):
    """The same rows, with sums taken in another order: a relative difference of 2e-4, as on another mesh."""
    found = log(folder)
    assert found == {key: pytest.approx(loss, rel=2e-4) for key, loss in expected.items()}


@pytest.mark.slow
def test_two_local_hosts_are_one_run(tmp_path, undisturbed):
    status, out, err = end(start(tmp_path, "--local-hosts=2"))
    assert status == 0, err
    assert "2 x cpu" in out and out.count("report.html") == 1
    agree(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_stops_the_run_and_one_goes_on(tmp_path, victim):
    """Started on two hosts, one killed, ended on the one that is left."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        place = f"127.0.0.1:{found.getsockname()[1]}"
    module = ("experiments.language_model.train", "--config=tiny")
    words = ["--hosts=2", f"--coordinator={place}", "--config.save_every=2"]
    hosts = [start(tmp_path, *words, f"--host-id={i}", steps=4000, module=module) for i in range(2)]
    until(hosts[0], "first step done")
    while train.progress(tmp_path).startswith("checkpoint 0"):
        assert hosts[0].poll() is None, hosts[0].stderr.read()
    hosts[victim].kill()
    status, _, err = end(hosts[1 - victim])
    end(hosts[victim])
    assert status == 75, err
    assert f"almanac: host {victim} ({socket.gethostname()}) is lost: its connection closed at tick " in err
    done = int(train.progress(tmp_path).split()[1].rstrip(","))
    status, out, err = end(start(tmp_path, "--resume=force", "--config.save_every=2", steps=done + 2))
    assert status == 0, err
    assert f"resumed at step {done:,} of" in out
    assert [step for step, split in log(tmp_path) if split == "train"] == list(range(1, done + 3))


@pytest.mark.slow
def test_a_preempted_pair_saves_one_step_and_is_resumed(tmp_path):
    running = start(tmp_path, "--local-hosts=2", steps=20_000)
    until(running, "first step done")
    running.send_signal(signal.SIGTERM)
    status, out, err = end(running)
    assert status == 75, err
    assert "preempted: saved step" in out and "Traceback" not in err
    done = int(train.progress(tmp_path).split()[1].rstrip(","))
    status, out, err = end(start(tmp_path, "--local-hosts=2", "--resume=force", steps=done + 2))
    assert status == 0, err
    assert f"resumed at step {done:,} of" in out


@pytest.mark.slow
def test_a_supervised_run_survives_a_kill(tmp_path, undisturbed):
    """The child is killed at its second checkpoint; the supervisor starts it again, and the report comes once."""
    running = start(tmp_path, "--restarts=2", "--config.save_every=2", steps=12)
    until(running, "first step done")
    os.kill(_child(running.pid), signal.SIGKILL)
    status, out, err = end(running)
    assert status == 0, err
    assert "almanac: killed by SIGKILL, at checkpoint" in err and "restart 1 of 2 in 1 s" in err
    assert out.count("report.html") == 1
    assert log(tmp_path) == undisturbed  # one process again: to the bit


def _child(pid):
    return int(subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.slow
def test_a_config_that_differs_starts_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as found:
        words = ["--hosts=2", f"--coordinator=127.0.0.1:{found.getsockname()[1]}"]
    hosts = [start(tmp_path / "run", *words, f"--host-id={i}", f"--config.seed={i}") for i in range(2)]
    for process in hosts:
        status, out, err = end(process)
        assert (status, out) == (2, "")
        assert err.startswith("almanac: --config.seed is 1 on host 1 (") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
