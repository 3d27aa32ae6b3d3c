"""Hosts that watch one another, as real processes: who is killed, silent or stalled is named, and nobody hangs."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from research.cluster import membership

ROOT = Path(__file__).resolve().parents[2]
NAME = socket.gethostname()
REST = "; the last checkpoint stands: start again with the hosts that are left, and the run goes on"
TIMEOUT = 120  # of a test that would hang

# Works by steps of 10 ms until it is told `how` to end, at step 20.
WORKER = """
import sys, time
from research.cluster import membership, rendezvous
from research.util.errors import UserError
hosts, host, place, how, host_timeout, stall_timeout, grace = sys.argv[1:]
membership.GRACE = float(grace)
ends = {"mistake": UserError("seed = -1: at least 0"), "preempted": SystemExit(75), "bug": ValueError("gloo failed")}
meeting = rendezvous.meet(int(hosts), int(host), place, {}, 60).check()
try:
    with membership.Cluster(meeting, float(host_timeout), float(stall_timeout)):
        step = 0
        while how != "done" or step < 100:
            step += 1
            if step >= 20 and how in ends:
                raise ends[how]
            if step == 20 and how == "stall":
                time.sleep(1000)
            membership.beat()
            if step == 10:
                print("ready", flush=True)
            time.sleep(0.01)
        print("worked", time.monotonic(), flush=True)
    print("after", time.monotonic(), flush=True)
except UserError as e:
    sys.exit(2)
"""

# Steps of random lengths, and host 1's are ten times as long; ends where the hosts agree to.
STEPPER = """
import random, signal, sys, time
from research.cluster import membership, rendezvous
hosts, host, place = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: membership.preempt())
meeting = rendezvous.meet(int(hosts), int(host), place, {}, 60).check()
with membership.Cluster(meeting):
    step = 100
    while True:
        step += 1
        if step == 110:
            print("ready", flush=True)
        time.sleep(random.random() * (0.02 if host == "1" else 0.002))
        if membership.ends_at(step):
            break
    print(step)
"""

# The same with JAX: sums over all hosts.
JAX_WORKER = """
import sys, time
from research.cluster import membership
{auto}
membership.REMEDY = ""
with joined:
    import jax
    import numpy as np
    from jax.experimental import multihost_utils
    for step in range(10_000 if sys.argv[2] == "on" else 5):
        total = multihost_utils.process_allgather(np.int32(1 + jax.process_index())).sum()
        membership.beat()
        if step == 3:
            print("ready", jax.process_count(), total, flush=True)
print("after")
"""
JOIN = 'joined = membership.join(2, int(sys.argv[1]), sys.argv[3], {"a": "b"}, host_timeout=30)'
JOIN_AUTO = 'joined = membership.join_auto({"a": "b"}, host_timeout=30)'


@pytest.fixture
def place():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def spawn():
    running = []

    def spawn(code, *words, **env):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **env}
        command = [sys.executable, "-c", code, *map(str, words)]
        running.append(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield spawn
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def hosts(spawn, place):
    """hosts("on", "stall", ...) -> processes, of which each has worked a while."""

    def hosts(*how, host_timeout=100, stall_timeout=100, grace=1):
        found = [
            spawn(WORKER, len(how), host, place, one, host_timeout, stall_timeout, grace)
            for host, one in enumerate(how)
        ]
        for process in found:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return found

    return hosts


@pytest.mark.parametrize("preempted", [[0], [1], [2], [0, 1, 2]])
def test_hosts_end_with_one_step(spawn, place, preempted):
    """Whoever is told to go, and however far apart they are; nobody has passed the step before it knows."""
    found = [spawn(STEPPER, 3, host, place) for host in range(3)]
    for process in found:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for host in preempted:
        found[host].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=TIMEOUT) for process in found]
    steps = {int(out) for out, _ in outputs}
    assert len(steps) == 1 and steps.pop() > 110, outputs


def ends(process):
    """-> exit status, stderr."""
    err = process.communicate(timeout=TIMEOUT)[1]
    return process.returncode, err


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_host_is_named_at_once(hosts, victim):
    """Its connection tells: the time-outs are longer than this test may take."""
    running = hosts("on", "on", "on", host_timeout=1000, stall_timeout=1000)
    running.pop(victim).kill()
    for process in running:
        status, err = ends(process)
        assert status == 75
        assert err.startswith(f"almanac: host {victim} ({NAME}) is lost: its connection closed at tick ")
        assert err.endswith(f"{REST}\n") and err.count("\n") == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_a_silent_host_is_named(hosts, victim):
    running = hosts("on", "on", "on", host_timeout=3)
    stopped = running.pop(victim)
    stopped.send_signal(signal.SIGSTOP)
    for process in running:
        status, err = ends(process)
        assert status == 75
        assert err.startswith(f"almanac: host {victim} ({NAME}) is lost: not a word from it for 3 s, at tick ")
    stopped.send_signal(signal.SIGCONT)
    assert ends(stopped)[0] == 75  # finds itself alone


@pytest.mark.parametrize("victim", [0, 1])
def test_a_stalled_host_is_named(hosts, victim):
    """All its threads but the main one live."""
    how = ["on", "on"]
    how[victim] = "stall"
    for process in hosts(*how, stall_timeout=3):
        status, err = ends(process)
        assert status == 75
        assert err.startswith(f"almanac: host {victim} ({NAME}) has stalled at tick 19, ")
        assert f"s ago (host {1 - victim} at " in err


def test_a_clean_end_is_one_of_all(hosts):
    """A host that is through waits for the others, who may need it."""
    first, slow = hosts("done", "done")
    times = []
    for process in (first, slow):
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, err) == (0, "")
        times.append({word: float(at) for word, at in (line.split() for line in out.splitlines())})
    assert min(t["after"] for t in times) >= max(t["worked"] for t in times)


def test_a_host_that_parts_early_is_not_lost(spawn, place):
    """Host 0 is held up between telling the others that all have ended and knowing it itself."""
    held_up = """
tell = membership.Cluster._tell
def slow(self, **message):
    tell(self, **message)
    time.sleep(0.5 if "together" in message else 0)
membership.Cluster._tell = slow
meeting ="""
    worker = WORKER.replace("meeting =", held_up.lstrip()).replace("step < 100", "step < (200 if host == '0' else 50)")
    for process in [spawn(worker, 2, host, place, "done", 100, 100, 1) for host in range(2)]:
        assert ends(process) == (0, "")


def test_a_mistake_on_one_host_stops_the_others(hosts):
    mistaken, other = hosts("mistake", "on")
    assert ends(mistaken) == (2, "almanac: seed = -1: at least 0\n")
    assert ends(other) == (75, f"almanac: host 0 ({NAME}) stopped: seed = -1: at least 0\n")


def test_a_mistake_on_one_of_three_reaches_the_third(hosts):
    first, mistaken, third = hosts("on", "mistake", "on")
    assert ends(mistaken) == (2, "almanac: seed = -1: at least 0\n")
    for process in (first, third):
        assert ends(process) == (75, f"almanac: host 1 ({NAME}) stopped: seed = -1: at least 0\n")


@pytest.mark.parametrize(("how", "status"), [("mistake", 2), ("preempted", 75), ("bug", 1)])
def test_what_ends_all_hosts_is_each_ones_own(hosts, how, status):
    """Long before the others would be given up."""
    for process in hosts(how, how, grace=1000, host_timeout=1000):
        found, err = ends(process)
        assert (found, "almanac" in err, "gloo failed" in err) == (status, False, how == "bug")


def test_an_error_on_one_host_is_told_when_no_host_is_lost(hosts):
    broken, other = hosts("bug", "on", host_timeout=2)
    status, err = ends(broken)
    assert status == 1 and "Traceback" in err and err.endswith("almanac: ValueError: gloo failed\n")
    assert ends(other) == (75, f"almanac: host 0 ({NAME}) stopped: ValueError: gloo failed\n")


def test_beats_without_a_cluster_are_counted_for_nobody():
    before = membership._tick
    membership.beat()
    assert membership._tick == before + 1


@pytest.mark.parametrize("victim", [0, 1])
def test_jax_hosts_are_named_before_jax_aborts(spawn, place, victim):
    """Without the watch, status 134: at once where host 0 is gone, and else after JAX's time-out."""
    running = [spawn(JAX_WORKER.replace("{auto}", JOIN), host, "on", place) for host in range(2)]
    for process in running:
        assert "ready 2 3" in _until_ready(process)
    running[victim].kill()
    status, err = ends(running[1 - victim])
    assert status == 75
    assert f"almanac: host {victim} ({NAME}) is lost: its connection closed at tick" in err


def test_jax_hosts_end_together(spawn, place):
    for process in [spawn(JAX_WORKER.replace("{auto}", JOIN), host, "done", place) for host in range(2)]:
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, "after" in out, "almanac" in err) == (0, True, False)


def test_the_hosts_that_jax_detects(spawn, place):
    """As Slurm says it to its tasks; JAX takes its port from the job's number."""
    port = int(place.split(":")[1])
    slurm = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    code = JAX_WORKER.replace("{auto}", JOIN_AUTO)
    running = [spawn(code, host, "on", **slurm, SLURM_PROCID=str(host)) for host in range(2)]
    for process in running:
        assert "ready 2 3" in _until_ready(process)
    running[1].kill()
    status, err = ends(running[0])
    assert status == 75 and f"almanac: host 1 ({NAME}) is lost: its connection closed at tick" in err


def test_no_cluster_to_be_detected(spawn):
    status, err = ends(spawn(JAX_WORKER.replace("{auto}", JOIN_AUTO), 0, "done"))
    assert status == 1
    assert "UserError: --hosts=auto: JAX finds no cluster here" in err and "give --hosts N --host-id I" in err


def _until_ready(process):
    for line in process.stdout:  # gloo speaks on stdout, too
        if line.startswith("ready"):
            return line
    return process.communicate(timeout=TIMEOUT)[1]
