"""A command that is started again when it fails, and several that are one run: real children, the waits a list."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from research.cluster import processes

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120

# Ends as the next word of the file `plan` says: an exit status, or a signal's name.
CHILD = """
import os, pathlib, signal, sys
plan = pathlib.Path(sys.argv[1])
word, *rest = plan.read_text().split()
plan.write_text(" ".join(rest))
if word.isdigit():
    sys.exit(int(word))
os.kill(os.getpid(), signal.Signals[word])
signal.pause()
"""


@pytest.fixture
def supervised(tmp_path):
    """supervised(restarts, "75 0", [progress, ...]) -> status, statuses left, seconds waited for each restart."""

    def supervised(restarts, plan, places=()):
        path, waits, places = tmp_path / "plan", [], iter(places)
        path.write_text(plan)

        def progress():
            waits.append(0.0)
            return next(places, "here")

        def sleep(seconds):
            waits[-1] += seconds

        status = processes.supervise([sys.executable, "-c", CHILD, str(path)], restarts, progress, sleep)
        return status, path.read_text(), [w for w in waits if w]

    return supervised


@pytest.mark.parametrize("status", [0, 2, 130])
def test_what_a_restart_cannot_help_is_not_restarted(supervised, status, capsys):
    assert supervised(3, f"{status} 0") == (status, "0", [])
    assert capsys.readouterr().err == ""


def test_preempted_again_and_again(supervised, capsys):
    """At one place, too: a preemption is no fault of the run."""
    assert supervised(9, "75 75 75 75 75 75 75 75 0") == (0, "", [1, 2, 4, 8, 16, 32, 60, 60])
    err = capsys.readouterr().err.splitlines()
    assert err[1] == "almanac: exit status 75, at here; restart 2 of 9 in 2 s" and len(err) == 8


def test_restarts_are_used_up(supervised, capsys):
    assert supervised(2, "75 75 75 0") == (75, "0", [1, 2])
    assert capsys.readouterr().err.endswith("almanac: exit status 75; 2 restarts used up\n")
    assert supervised(0, "75 0") == (75, "0", [])


def test_a_crash_at_the_same_place_ends_it(supervised, capsys):
    assert supervised(5, "1 1 0", ["checkpoint 3, log 5"] * 2) == (1, "0", [1])
    line = "almanac: exit status 1, as before it, at checkpoint 3, log 5: not started again\n"
    assert capsys.readouterr().err.endswith(line)


def test_a_signals_death_is_status_1(supervised, capsys):
    assert supervised(5, "SIGKILL SIGKILL 0") == (1, "0", [1])
    assert capsys.readouterr().err.startswith("almanac: killed by SIGKILL, at here; restart 1 of 5 in 1 s\n")


def test_a_crash_after_progress_is_another_crash(supervised):
    assert supervised(5, "1 SIGSEGV 1 0", ["step 3", "step 5", "step 6"]) == (0, "", [1, 2, 4])


def test_a_preemption_between_two_crashes_parts_them(supervised):
    assert supervised(5, "1 75 1 0") == (0, "", [1, 2, 4])


@pytest.mark.parametrize(
    ("statuses", "one"),
    [
        ([0, 0], 0), ([0, 75], 75), ([75, 75], 75), ([75, 2], 2), ([2, 0], 2), ([1, 75], 1), ([2, 1], 1), ([130, 75], 130),
        ([75, -9], 75), ([-9, 0], 1), ([-9, 2], 1), ([3, 75, 0], 3),
    ],
)  # fmt: skip
def test_one_status_of_several(statuses, one):
    assert processes.worst(statuses) == one
    assert processes.worst(statuses[::-1]) == one


def python(code, *words, **how):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **how,
    )  # fmt: skip


SAVES = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_sigterm_is_handed_on_and_ends_the_restarts():
    code = "import sys; from research.cluster import processes as p; sys.exit(p.supervise(sys.argv[1:], 9, lambda: 0))"
    supervisor = python(code, sys.executable, "-c", SAVES)
    assert supervisor.stdout.readline() == "ready\n"
    supervisor.send_signal(signal.SIGTERM)
    out, err = supervisor.communicate(timeout=TIMEOUT)
    assert (supervisor.returncode, out, err) == (75, "saved\n", "")


def test_a_sigterm_during_the_wait_ends_it():
    code = (
        "import sys; from research.cluster import processes as p; sys.exit(p.supervise(sys.argv[1:], 9, lambda: 0, {}))"
    )
    waits = "lambda s: (print('waits', flush=True), __import__('time').sleep(s))"
    supervisor = python(code.format(waits), sys.executable, "-c", "raise SystemExit(75)")
    assert supervisor.stdout.readline() == "waits\n"
    supervisor.send_signal(signal.SIGTERM)
    _, err = supervisor.communicate(timeout=TIMEOUT)
    assert supervisor.returncode == 75
    assert err.count("restart") <= 2  # the signal may have come when the first wait was over


TOGETHER = """
import sys
from research.cluster import processes
sys.exit(processes.together([[sys.executable, "-c", code] for code in sys.argv[1:]]))
"""


def test_hosts_of_one_machine():
    """The first one's output passes untouched; the others' lines come to stderr under their names."""
    say = "import sys; print('out'); print('err', file=sys.stderr)"
    both = python(TOGETHER, say, say, "print('x'); raise SystemExit(75)")
    out, err = both.communicate(timeout=TIMEOUT)
    assert (both.returncode, out) == (75, "out\n")
    assert sorted(err.splitlines()) == ["err", "host 1: err", "host 1: out", "host 2: x"]


def test_a_sigterm_goes_to_all_hosts():
    parent = python(TOGETHER, SAVES, SAVES)
    assert parent.stdout.readline() == "ready\n" and parent.stderr.readline() == "host 1: ready\n"
    parent.send_signal(signal.SIGTERM)
    out, err = parent.communicate(timeout=TIMEOUT)
    assert (parent.returncode, out, err) == (75, "saved\n", "host 1: saved\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a child of its parent's death on Linux only")
def test_a_child_does_not_outlive_its_parent():
    follows = "from research.cluster import processes; processes.follow_parent()" + SAVES
    parent = python(TOGETHER, follows, follows)
    assert parent.stdout.readline() == "ready\n" and parent.stderr.readline() == "host 1: ready\n"
    parent.kill()
    assert parent.stdout.readline() == "saved\n"
    parent.communicate(timeout=TIMEOUT)  # ends when both children have closed their ends
