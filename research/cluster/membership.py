"""Several hosts at one run: they meet, watch one another and end together.

JAX aborts a process whose peers are absent or silent, with a stack trace and without their names. So all is known before
JAX starts (research/cluster/rendezvous.py), and from then on every host sends host 0 its tick each second, and host 0 them
its own. Who is killed, silent or stalled is named, and the others leave with status 75, long before JAX would abort.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from research.cluster import rendezvous
from research.cluster.rendezvous import RESUMABLE, START_TIMEOUT, Lost, Meeting, Peer
from research.util.errors import UserError

HOST_TIMEOUT = 60  # seconds without a word: the machine or the network is gone, or the process is stopped
STALL_TIMEOUT = 600  # seconds without a tick: the process lives and its main thread does not come on
BEFORE_FIRST = 10  # times as long may pass before the first tick, when data is made and programs are compiled
TICK = 1.0  # seconds between two messages
GRACE = 10.0  # seconds for the others to end too, when this host ends by a mistake
CLOCKS = 5.0  # seconds that clocks may differ without a warning
REMEDY = "; the last checkpoint stands: start again with the hosts that are left, and the run goes on"

_tick = 0
_moved = time.monotonic()
_preempted = False
_current: "Cluster | None" = None


def beat() -> None:
    """The main thread comes on: call it at each step, each evaluated batch and each save. Costs next to nothing."""
    global _tick, _moved
    _tick += 1
    _moved = time.monotonic()


def preempt() -> None:
    """This host must go soon. From a signal handler, too: a thread tells the others."""
    global _preempted
    _preempted = True


def ends_at(step: int) -> bool:
    """Whether the hosts end with `step`: the same one on all of them, soon after one was preempted. Call it in each step."""
    return _current is not None and _current.ends_at(step)


@dataclass
class Sign:
    """What is known of a host: its ticks, since when (seconds, on our clock) they stand, and when it was last heard."""

    peer: Peer
    tick: int = 0
    moved: float = 0.0
    heard: float = 0.0
    ended: bool = False


class Cluster:
    """Watches the hosts of a meeting from its making on: `with` it around the work.

    A host that is lost, stalls or stops is named on every other one's stderr, and these leave with `os._exit(75)`: their
    main threads may hang in a collective. Where all end, with or without an error, `close` is called and they go on.
    """

    def __init__(
        self, meeting: Meeting, host_timeout: float = HOST_TIMEOUT, stall_timeout: float = STALL_TIMEOUT,
        close: Callable[[], Any] = lambda: None,
    ):  # fmt: skip
        self.host, self.peers, self._wires = meeting.host, meeting.peers, meeting.wires
        self._host_timeout, self._stall_timeout, self.close = host_timeout, stall_timeout, close
        global _moved
        _moved = now = time.monotonic()
        self._signs = {host: Sign(peer, 0, now, now) for host, peer in self.peers.items()}
        self._together, self._leaving = threading.Event(), threading.Lock()
        self._turn = threading.Condition()  # of what follows
        self._at = 0  # the step that the main thread has asked for
        self._last: int | None = None  # the one to end with
        self._asked = False
        self._places: dict[int, int] = {}
        global _current, _preempted
        _current, _preempted = self, False
        self._readers = [threading.Thread(target=self._read, args=(host,), daemon=True) for host in self._wires]
        for thread in (*self._readers, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Ends with the others. If they do not come along, says why and leaves the process with its own status."""
        line, status, grace = _ending(error, self._host_timeout)
        self._signs[self.host].ended = True
        self._tell(end=True)
        self._end_together()
        if self._together.wait(grace):
            global _current
            _current = None
            self.close()
            self._part()
            return
        if status == 1:
            traceback.print_exception(error)
        self._leave(line, status, f"{self.peers[self.host]} stopped: {line}")

    # Ending with one step. JAX has such a protocol; its hosts were seen to end with different ones, and wait for ever.

    def ends_at(self, step: int) -> bool:
        """Waits only while the last step is being agreed on: no host may pass it before it knows."""
        with self._turn:
            while self._asked and self._last is None:
                self._turn.wait()
            self._at = step
            return self._last is not None and step >= self._last

    def _ask(self) -> None:
        """Host 0: where is everybody? From the answers on nobody moves."""
        with self._turn:
            if self._asked:
                return
            self._asked = True
            at = self._at
        self._tell(where=True)
        self._hear(0, at)

    def _answer(self) -> None:
        with self._turn:
            self._asked = True
            at = self._at
        self._wires[0].send(at=at)

    def _hear(self, host: int, at: int) -> None:
        """Host 0: the last step is the one after the furthest. A main thread that waits for another host's is before it."""
        with self._turn:
            self._places[host] = at
            last = max(self._places.values()) + 1 if len(self._places) == len(self.peers) else None
        if last is not None:
            self._tell(last=last)
            self._settle(last)

    def _settle(self, last: int) -> None:
        with self._turn:
            self._last = last
            self._turn.notify_all()

    # Talking

    def _tell(self, **message: Any) -> None:
        for wire in self._wires.values():
            wire.send(**message)

    def _read(self, host: int) -> None:
        wire, sign = self._wires[host], self._signs[host]
        while message := wire.receive():
            sign.heard = time.monotonic()
            if "tick" in message:
                sign.tick, sign.moved = message["tick"], sign.heard - message["still"]
            elif "end" in message:
                sign.ended = True
                self._end_together()
            elif "preempt" in message:
                self._ask()
            elif "where" in message:
                self._answer()
            elif "at" in message:
                self._hear(host, message["at"])
            elif "last" in message:
                self._settle(message["last"])
            elif "together" in message:
                self._together.set()
            elif "stop" in message:
                self._leave(message["stop"], RESUMABLE, message["stop"])
        if not self._together.is_set() and not self._all_ended():  # told so, the others may close before we have set it
            self._lose(sign, "its connection closed")

    def _end_together(self) -> None:
        if self._all_ended():
            self._tell(together=True)
            self._together.set()

    def _all_ended(self) -> bool:
        """Host 0 alone knows."""
        return self.host == 0 and all(sign.ended for sign in self._signs.values())

    # Watching

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._together.wait(TICK):
            now = time.monotonic()
            if now - last > self._host_timeout / 2:  # this process was stopped itself, and has heard no one
                for sign in self._signs.values():
                    sign.heard = now
            last = now
            own = self._signs[self.host]
            own.tick, own.moved, own.heard = _tick, _moved, now
            self._tell(tick=_tick, still=now - _moved)
            if _preempted and not self._asked:
                self._tell(preempt=True) if self.host else self._ask()
            self._judge(now)

    def _judge(self, now: float) -> None:
        for host in self._wires:
            if now - self._signs[host].heard > self._host_timeout:
                self._lose(self._signs[host], f"not a word from it for {self._host_timeout:g} s,")
        working = [sign for sign in self._signs.values() if not sign.ended]
        if self.host or not self._wires or not working:
            return
        least = min(working, key=lambda sign: (sign.tick, sign.moved))
        allowed = self._stall_timeout * (1 if least.tick else BEFORE_FIRST)
        if now - least.moved > allowed:
            others = ", ".join(f"host {s.peer.host} at {s.tick}" for s in self._signs.values() if s is not least)
            line = f"{least.peer} has stalled at tick {least.tick}, {now - least.moved:.0f} s ago ({others}){REMEDY}"
            self._leave(line, RESUMABLE, line)

    def _lose(self, sign: Sign, why: str) -> None:
        line = f"{sign.peer} is lost: {why} at tick {sign.tick}{REMEDY}"
        self._leave(line, RESUMABLE, line)

    # Leaving

    def _leave(self, line: str, status: int, tell: str) -> NoReturn:
        """Ends the process from any thread. The first reason is told; a second one waits for the end, or ends its reader."""
        if not self._leaving.acquire(blocking=threading.current_thread() not in self._readers):
            raise SystemExit
        self._tell(stop=tell)
        say(line)
        self._part()
        os._exit(status)

    def _part(self) -> None:
        """Closes so that the others still read what was sent: host 0 last."""
        for wire in self._wires.values():
            wire.end()
        last = time.monotonic() + 2
        for reader in self._readers:
            if reader is not threading.current_thread():
                reader.join(max(0, last - time.monotonic()))


def _ending(error: BaseException | None, host_timeout: float) -> tuple[str, int, float | None]:
    """How the work ended -> one line, an exit status, and the seconds for others to end, too (None: as long as they work)."""
    if error is None:
        return "", 0, None
    if isinstance(error, UserError | Lost):
        return str(error), RESUMABLE if isinstance(error, Lost) else 2, GRACE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130, GRACE
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        return f"exit status {status}, and the others do not end", status, host_timeout
    # A collective fails for a host that is gone: the watch will name it.
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}", 1, host_timeout + 5 * TICK


def say(line: str) -> None:
    """A line on stderr, after what was written before it, from any thread, whatever the others hold."""

    def flush():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    thread.join(2)
    with contextlib.suppress(OSError):
        os.write(2, f"almanac: {line}\n".encode())


def join(
    hosts: int, host: int, coordinator: str, facts: Mapping[str, str], *, start_timeout: float = START_TIMEOUT,
    host_timeout: float = HOST_TIMEOUT, stall_timeout: float = STALL_TIMEOUT,
) -> Cluster:  # fmt: skip
    """Meets the others and starts JAX's distributed system. `facts`, {name: value}, must be the same on every host.

    UserError on every host where they are not, or where the hosts' numbers are wrong; Lost where one does not come.
    """
    import jax

    meeting = rendezvous.meet(hosts, host, coordinator, facts, start_timeout).check()
    _compare_clocks(meeting)
    cluster = Cluster(meeting, host_timeout, stall_timeout, jax.distributed.shutdown)
    _hold_aborts()
    jax.distributed.initialize(
        coordinator, hosts, host, coordinator_bind_address=meeting.bound, cluster_detection_method="deactivate",
        **_patience(start_timeout, host_timeout),
    )  # fmt: skip
    return cluster


def join_auto(
    facts: Mapping[str, str], *, ready: Callable[[], None] = lambda: None, start_timeout: float = START_TIMEOUT,
    host_timeout: float = HOST_TIMEOUT, stall_timeout: float = STALL_TIMEOUT,
) -> Cluster:  # fmt: skip
    """As `join`, for the cluster that JAX detects: a TPU pod, Slurm, Kubernetes, Open MPI.

    Host 0 tells the others by JAX where it listens. `ready` is called before the devices are touched. A host that never
    arrives is not named: it is JAX that waits for it, and aborts.
    """
    import jax

    try:
        jax.distributed.initialize(**_patience(start_timeout, host_timeout))
    except (RuntimeError, ValueError) as e:
        raise UserError(
            f"--hosts=auto: JAX finds no cluster here ({next(iter(str(e).splitlines()), '')}); "
            "give --hosts N --host-id I --coordinator HOST:PORT"
        ) from None
    _hold_aborts()
    ready()
    me = Peer(jax.process_index(), jax.process_count(), socket.gethostname(), facts)
    try:
        meeting = _meet_by_jax(me, start_timeout).check()
    except (UserError, Lost) as e:
        say(str(e))
        os._exit(2 if isinstance(e, UserError) else RESUMABLE)  # at an ordinary exit JAX would wait for the others
    _compare_clocks(meeting)
    return Cluster(meeting, host_timeout, stall_timeout, jax.distributed.shutdown)


def _patience(start_timeout: float, host_timeout: float) -> dict[str, int]:
    """JAX's timeouts, longer than ours."""
    return {
        "initialization_timeout": int(start_timeout) + 60,
        "heartbeat_timeout_seconds": int(2 * host_timeout) + 60,
        "shutdown_timeout_seconds": 60,
    }


def _meet_by_jax(me: Peer, timeout: float) -> Meeting:
    import numpy as np
    from jax.experimental import multihost_utils

    with contextlib.ExitStack() as stack:
        mine: list = []
        if me.host == 0:
            listener = stack.enter_context(rendezvous.everywhere(0))
            mine = [[name, listener.getsockname()[1]] for name in _names()]
        sent = np.zeros(1024, np.uint8)
        text = json.dumps(mine).encode()
        sent[: len(text)] = np.frombuffer(text, np.uint8)
        places = json.loads(bytes(multihost_utils.broadcast_one_to_all(sent)).rstrip(b"\0"))
        if me.host == 0:
            return rendezvous.receive(listener, me, timeout, "its port")
        return rendezvous.visit([(name, port) for name, port in places], me, timeout, " or ".join(p[0] for p in places))


def _names() -> list[str]:
    """This machine's names and addresses, the likeliest to be known elsewhere first."""
    found = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))  # sends nothing: it asks which address the way there begins at
        found.append(probe.getsockname()[0])
    return list(dict.fromkeys([*found, socket.getfqdn(), socket.gethostname(), "127.0.0.1"]))


def _compare_clocks(meeting: Meeting) -> None:
    for peer in meeting.peers.values():
        if meeting.host == 0 and abs(peer.ahead) > CLOCKS:
            say(f"warning: the clock of {peer} is {peer.ahead:+.1f} s from that of {meeting.peers[0]}")


def _hold_aborts() -> None:
    """Gives the watch six seconds to name host 0 when it is killed: JAX aborts the others within a tenth of one.

    The C library's `sleep` becomes the handler of SIGABRT, is called with its number, 6, and then the abort goes on.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
