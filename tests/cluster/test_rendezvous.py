"""Hosts that meet, as real processes: all get one verdict, and it names the host, the thing and both values."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from research.cluster import rendezvous
from research.cluster.rendezvous import Peer, judge
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
VISITOR = """
import json, sys
from research.cluster import rendezvous
from research.util.errors import UserError
hosts, host, place, facts, timeout = sys.argv[1:]
try:
    meeting = rendezvous.meet(int(hosts), int(host), place, json.loads(facts), float(timeout)).check()
    print(json.dumps([[p.host, p.name, p.facts, p.round_trip, p.ahead] for p in meeting.peers.values()]))
except UserError as e:
    sys.exit(f"2 {e}")
except rendezvous.Lost as e:
    sys.exit(f"75 {e}")
"""
NAME = socket.gethostname()


@pytest.fixture
def place():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def start():
    running = []

    def start(hosts, host, place, facts=None, timeout=60):
        words = [hosts, host, place, json.dumps(facts or {}), timeout]
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", VISITOR, *map(str, words)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def verdicts(processes):
    return [process.communicate(timeout=100)[1].strip() for process in processes]


def test_all_learn_of_all(start, place):
    hosts = [start(3, host, place, {"jax": "1", "commit": "abc"}) for host in (2, 0, 1)]
    seen = [json.loads(process.communicate(timeout=100)[0]) for process in hosts]
    for peers in seen:
        assert sorted(peer[:3] for peer in peers) == [[i, NAME, {"jax": "1", "commit": "abc"}] for i in range(3)]
        assert all(0 < trip < 10 and abs(ahead) < 10 for host, *_, trip, ahead in peers if host)
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])


def test_a_host_that_does_not_arrive_is_named(start, place):
    hosts = [start(4, host, place, timeout=2) for host in (0, 2)]
    line = f"75 hosts 1, 3 of 4 did not arrive at {place} within 2 s; start again when all are there, or with fewer --hosts"
    assert verdicts(hosts) == [line, line]


def test_host_0_that_does_not_arrive_is_named(start, place):
    (line,) = verdicts([start(2, 1, place, timeout=1)])
    assert line.startswith(f"75 host 0 cannot be reached at {place} within 1 s (Connection refused)")


def test_two_hosts_with_one_id(start, place):
    hosts = [start(3, host, place) for host in (0, 1, 1)]
    line = f"2 --host-id=1 came 2 times, from {NAME} and {NAME}; give each host its own"
    assert verdicts(hosts) == [line] * 3


def test_another_number_of_hosts(start, place):
    hosts = [start(2, 0, place), start(3, 1, place)]
    line = f"2 --hosts is 3 on host 1 ({NAME}) and 2 on host 0 ({NAME}); give one number"
    assert verdicts(hosts) == [line] * 2


def test_a_fact_that_differs_is_named_with_both_values(start, place):
    hosts = [start(2, 0, place, {"jax": "0.10.2", "--config.seed": "0"})]
    hosts.append(start(2, 1, place, {"jax": "0.11.0", "--config.seed": "1"}))
    line = f"2 jax is 0.11.0 on host 1 ({NAME}) and 0.10.2 on host 0 ({NAME}) (and 1 more); start every host with"
    assert [v.startswith(line) for v in verdicts(hosts)] == [True, True]


def test_a_host_that_died_waiting_may_come_again(start, place):
    """Two of one id, but never at one time."""
    first = start(3, 1, place)
    zero = start(3, 0, place)
    while not _connected(place):
        time.sleep(0.01)
    first.kill()
    first.wait()
    again, last = start(3, 1, place), start(3, 2, place)
    assert verdicts([zero, again, last]) == ["", "", ""]


def _connected(place):
    """Whether the kernel knows of a connection there."""
    if sys.platform != "linux":
        return True
    port = f":{int(place.split(':')[1]):04X} 01"
    return port in Path("/proc/net/tcp").read_text()


def test_what_speaks_another_language_is_not_a_host(start, place):
    """A stranger at host 0's port, a port that answers nonsense to a host: both go on waiting for the right ones."""
    nonsense = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            nonsense.accept()[0].sendall(b"\x00\x00\x12\x04not JSON\n")

    threading.Thread(target=answer, daemon=True).start()
    port = nonsense.getsockname()[1]
    (line,) = verdicts([start(2, 1, f"127.0.0.1:{port}", timeout=1)])
    assert line.startswith("75 host 0 cannot be reached")

    zero = start(2, 0, place)
    while True:
        try:
            stranger = socket.create_connection(rendezvous.address(place))
            break
        except ConnectionRefusedError:
            continue
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert verdicts([start(2, 1, place), zero]) == ["", ""]
    stranger.close()


def test_a_port_that_is_taken_is_the_users_mistake(place):
    with socket.create_server(rendezvous.address(place)), pytest.raises(UserError, match="host 0 cannot listen there"):
        rendezvous.meet(2, 0, place, {}, 1)


@pytest.mark.parametrize("text", ["localhost", "localhost:", ":80", "h:0", "h:65536", "h:x", "h:-1", "[]:80", "h:²"])
def test_a_malformed_address(text):
    with pytest.raises(UserError, match="write HOST:PORT"):
        rendezvous.address(text)


def test_addresses():
    assert rendezvous.address("node-0.cluster:8476") == ("node-0.cluster", 8476)
    assert rendezvous.address("[fe80::1]:80") == ("fe80::1", 80)


def test_one_host_meets_no_one(place):
    meeting = rendezvous.meet(1, 0, place, {"a": "b"}, 1)
    assert meeting.check() is meeting and list(meeting.peers) == [0] and not meeting.wires


def test_mistakes_come_before_absence():
    """Who waits for the third host would else learn only then that the second was started wrongly."""
    one, two = Peer(0, 3, "a", {"jax": "1"}), Peer(1, 3, "b", {})
    assert judge([one, two], "a:1", 9)[0].startswith("jax is absent on host 1 (b) and 1 on host 0 (a); start")
    assert judge([one, two._replace(facts=one.facts)], "a:1", 9)[1] == 75
    assert judge([one, two._replace(facts=one.facts), Peer(2, 3, "c", one.facts)], "a:1", 9) == ("", 0)
