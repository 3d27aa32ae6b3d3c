"""`almanac doctor` on several hosts: real processes that meet, and rows that say what differs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from research.cluster.rendezvous import Meeting, Peer
from research.util.errors import UserError
from tools.doctor import hosts

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import json, sys
from tools.doctor import hosts
host, place, *changes = sys.argv[1:]
words = ["language_model/tiny", "--hosts=2", f"--host-id={host}", f"--coordinator={place}", *changes]
print(json.dumps(hosts.examine(words)))
"""
NAME = socket.gethostname()


@pytest.fixture
def place():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


def test_hosts_that_meet_and_differ(place):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(host), place, f"--config.seed={host}"], cwd=ROOT, env=env, text=True,
            stdout=subprocess.PIPE,
        )
        for host in range(2)
    ]  # fmt: skip
    first, second = (json.loads(process.communicate(timeout=200)[0]) for process in running)
    assert first == second and [row[0] for row in first] == ["host 0", "host 1"]
    assert first[0][1].startswith(f"{NAME}: python 3.") and first[0][2] == ""
    assert " ms there and back, clock " in first[1][1] and ", commit " in first[1][1]
    assert first[1][2] == f"--config.seed is 1 on host 1 ({NAME}) and 0 on host 0 ({NAME})"
    assert first[0][1].split("config ")[1] != first[1][1].split("config ")[1]


def test_a_host_that_is_not_there(place):
    first, second = hosts.check(2, 0, place, timeout=0.2)
    assert not first.remedy
    assert second == ("host 1", "absent", second.remedy)
    assert second.remedy.startswith(f"host 1 of 2 did not arrive at {place} within 0.2 s")
    (row,) = hosts.check(2, 1, place, timeout=0.2)
    assert row.remedy.startswith(f"host 0 cannot be reached at {place}")


def test_a_clock_that_differs():
    first, late = Peer(0, 2, "a", {}), Peer(1, 2, "b", {}, 0.0015, -7.5)
    meeting = Meeting(0, {0: first, 1: late})
    row = hosts._row(meeting, 1, first)
    assert row.value.startswith("b: 1.5 ms there and back, clock -7.500 s, ")
    assert row.remedy == "its clock is -7.5 s from host 0's: set both by NTP"
    meeting.peers[1] = late._replace(ahead=0.5)
    assert not hosts._row(meeting, 1, first).remedy


def test_overrides_need_an_experiment(place):
    with pytest.raises(UserError, match=r"--config\.seed=1 needs the NAME of an experiment"):
        hosts.check(1, 0, place, None, ["seed=1"])


@pytest.mark.parametrize("argv", [["--hosts=1"], ["--hosts=auto"]])
def test_one_host_has_nothing_to_compare(argv):
    with pytest.raises(UserError, match=f"{argv[0]}: to compare hosts give --hosts N"):
        hosts.examine(argv)
