"""Who takes part: every host meets host 0 over TCP and tells it its facts, before any device is touched.

One JSON object a line. A host sends pings (for the round trip and the clocks) and its introduction, host 0 waits for all of
them, compares and tells all the same verdict. The connections stay: research/cluster/membership.py watches them.
"""

import contextlib
import errno
import itertools
import json
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from research.util.errors import UserError

RESUMABLE = 75  # exit status: start again to go on
START_TIMEOUT = 120  # seconds for all to arrive
ANSWER_TIMEOUT = 10  # seconds for one line of a host that is there
LINE = 1 << 20  # bytes: nobody's introduction is longer

Place = tuple[str, int]


class Lost(Exception):
    """A host is not there, and no one at this one has made a mistake: one line, exit status 75."""


class Peer(NamedTuple):
    """A host as it introduced itself. Seconds: `round_trip` to host 0, `ahead` of its clock."""

    host: int
    hosts: int
    name: str
    facts: Mapping[str, str]
    round_trip: float = 0.0
    ahead: float = 0.0

    def __str__(self) -> str:
        return f"host {self.host} ({self.name})"


class Wire:
    """A connection of JSON lines. What cannot be sent is not reported: the other side's reader finds the closed end."""

    def __init__(self, sock: socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._lines, self._lock = sock, sock.makefile("rb"), threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message, default=repr).encode() + b"\n")

    def receive(self, timeout: float | None = None) -> dict | None:
        """The next message; None where the other side closed, was silent for `timeout` seconds, or is none of ours."""
        try:
            self._socket.settimeout(timeout)
            message = json.loads(self._lines.readline(LINE))
            return message if isinstance(message, dict) else None
        except (OSError, ValueError):
            return None

    def closed(self) -> bool:
        """Whether the other side is gone, between messages."""
        try:
            self._socket.settimeout(0)
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self) -> None:
        """Says that nothing more will be sent; what was sent still arrives."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)


@dataclass
class Meeting:
    """Who came and what host 0 made of it: `fault` is "" or one line, with its exit status."""

    host: int
    peers: dict[int, Peer]
    fault: str = ""
    status: int = 0
    wires: dict[int, Wire] = field(default_factory=dict)  # at host 0 one a host, at the others {0: wire}
    bound: str | None = None  # where host 0 listened, if not everywhere

    def check(self) -> "Meeting":
        """Itself, or the fault as an error."""
        if self.fault:
            raise (Lost if self.status == RESUMABLE else UserError)(self.fault)
        return self


def address(text: str) -> Place:
    """`HOST:PORT` (IPv6 as `[::1]:PORT`) -> host, port."""
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator={text}: write HOST:PORT, a name or address of host 0 and a free port there")
    return host.strip("[]"), int(port)


def meet(hosts: int, host: int, coordinator: str, facts: Mapping[str, str], timeout: float = START_TIMEOUT) -> Meeting:
    """Host 0 waits at `coordinator` for the others, they come. All get one verdict, or `Lost` if host 0 is not there."""
    place, me = address(coordinator), Peer(host, hosts, socket.gethostname(), facts)
    if host:
        return visit([place], me, timeout, coordinator)
    with listen(place) as listener:
        meeting = receive(listener, me, timeout, coordinator)
        name = listener.getsockname()[0]
        if name not in ("0.0.0.0", "::"):
            meeting.bound = f"[{name}]:{place[1]}" if ":" in name else f"{name}:{place[1]}"
    return meeting


def listen(place: Place) -> socket.socket:
    """A listener at an address of this machine; everywhere, where the name is of a gateway in front of it."""
    try:
        family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
        try:
            return socket.create_server(place, family=family, backlog=128)
        except OSError as e:
            if e.errno != errno.EADDRNOTAVAIL:
                raise
            return everywhere(place[1])
    except OSError as e:
        raise UserError(
            f"--coordinator={place[0]}:{place[1]}: host 0 cannot listen there ({e.strerror or e}); "
            "give an address of host 0 and a port that is free"
        ) from None


def everywhere(port: int) -> socket.socket:
    """A listener at every address of this machine. Port 0 is any that is free."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=both)


def receive(listener: socket.socket, me: Peer, timeout: float, place: str) -> Meeting:
    """Host 0's part: waits for `me.hosts` - 1 others, judges and tells all."""
    greeted: queue.Queue = queue.Queue()
    came: list[tuple[Peer, Wire]] = []
    end = time.monotonic() + timeout
    listener.settimeout(0.1)
    while len(came) < me.hosts - 1 and time.monotonic() < end and all(p.hosts == me.hosts for p, _ in came):
        with contextlib.suppress(OSError):
            wire = Wire(listener.accept()[0])
            threading.Thread(target=_greet, args=(wire, greeted), daemon=True).start()
        # One that dies while it waits may be started again, and is not there twice.
        came = [(peer, wire) for peer, wire in [*came, *_drain(greeted)] if not wire.closed()]
    peers = [me, *(peer for peer, _ in came)]
    fault, status = judge(peers, place, timeout)
    for _, wire in came:
        wire.send(peers=[peer._asdict() for peer in peers], fault=fault, status=status)
    return Meeting(0, {p.host: p for p in peers}, fault, status, {p.host: wire for p, wire in came})


def _drain(things: queue.Queue) -> Iterator[tuple[Peer, Wire]]:
    with contextlib.suppress(queue.Empty):
        while True:
            yield things.get_nowait()


def _greet(wire: Wire, greeted: queue.Queue) -> None:
    while message := wire.receive(ANSWER_TIMEOUT):
        if message.keys() == set(Peer._fields):
            greeted.put((Peer(**message), wire))
            return
        wire.send(clock=time.time())
    wire.end()


def visit(places: Sequence[Place], me: Peer, timeout: float, name: str) -> Meeting:
    """The others' part: goes to host 0 at the first of `places` that answers, until it does."""
    end = time.monotonic() + timeout
    for place in itertools.cycle(places):
        try:
            wire = _connect(place)
        except OSError as e:
            why = e.strerror or str(e)
        else:
            if found := _introduce(wire, me, timeout):
                peers = {p["host"]: Peer(**p) for p in found["peers"]}
                return Meeting(me.host, peers, found["fault"], found["status"], {0: wire})
            wire.end()
            why = "what listens there does not answer as host 0 does"
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    raise Lost(f"host 0 cannot be reached at {name} within {timeout:g} s ({why}); start it, or mend --coordinator")


def _connect(place: Place) -> Wire:
    sock = socket.create_connection(place, timeout=5)
    if sock.getsockname() == sock.getpeername():  # where nobody listens, the kernel may connect a socket to itself
        sock.close()
        raise OSError("nobody listens there")
    return Wire(sock)


def _introduce(wire: Wire, me: Peer, timeout: float) -> dict | None:
    """-> host 0's verdict."""
    rounds = []
    for _ in range(3):
        now, start = time.time(), time.perf_counter()
        wire.send(ping=True)
        answer = wire.receive(ANSWER_TIMEOUT)
        if answer is None or "clock" not in answer:
            return None
        took = time.perf_counter() - start
        rounds.append((took, now + took / 2 - answer["clock"]))
    round_trip, ahead = min(rounds)
    wire.send(**me._replace(round_trip=round_trip, ahead=ahead)._asdict())
    # Host 0 may have begun to wait only now.
    verdict = wire.receive(timeout + ANSWER_TIMEOUT)
    return verdict if verdict and verdict.keys() == {"peers", "fault", "status"} else None


def judge(peers: Sequence[Peer], place: str, timeout: float) -> tuple[str, int]:
    """What is wrong with those who came, the first of them host 0 -> one line and an exit status; "", 0."""
    first = peers[0]
    for peer in peers:
        if peer.hosts != first.hosts:
            return f"--hosts is {peer.hosts} on {peer} and {first.hosts} on {first}; give one number", 2
    for host, times in Counter(peer.host for peer in peers).items():
        if times > 1:
            names = " and ".join(peer.name for peer in peers if peer.host == host)
            return f"--host-id={host} came {times} times, from {names}; give each host its own", 2
    if found := [d for peer in peers for d in differences(peer, first)]:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{found[0]}{more}; start every host with one commit, one environment and one command", 2
    if absent := sorted(set(range(first.hosts)) - {peer.host for peer in peers}):
        word, numbers = "hosts" if len(absent) > 1 else "host", ", ".join(map(str, absent))
        line = f"{word} {numbers} of {first.hosts} did not arrive at {place} within {timeout:g} s"
        return f"{line}; start again when all are there, or with fewer --hosts", RESUMABLE
    return "", 0


def differences(peer: Peer, first: Peer) -> list[str]:
    """Where a host's facts are not host 0's: `jax is 0.11.0 on host 1 (NAME) and 0.10.2 on host 0 (NAME)`."""
    return [
        f"{key} is {peer.facts.get(key, 'absent')} on {peer} and {first.facts.get(key, 'absent')} on {first}"
        for key in dict.fromkeys([*first.facts, *peer.facts])
        if peer.facts.get(key) != first.facts.get(key)
    ]
