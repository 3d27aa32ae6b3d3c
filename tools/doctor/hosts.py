"""`almanac doctor --hosts N --host-id I --coordinator HOST:PORT [NAME]`, run on every host: do they connect and agree?

The hosts connect as for a training run of the config NAME, but use no device. Each prints the same rows.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence

from experiments import launch, options
from research.cluster import membership, rendezvous
from research.cluster.rendezvous import Lost, Meeting, Peer
from research.core import config
from research.util.errors import UserError
from tools.doctor.rows import Row

SHOWN = ("python", "jax", "jaxlib", "commit")


def examine(argv: Sequence[str]) -> list[Row]:
    """`check` with the arguments of a command line. Raises UserError if they are invalid."""
    parser = argparse.ArgumentParser(prog="almanac doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment to be trained")
    options.add_hosts(parser)
    parser.add_argument(
        "--start-timeout", metavar="S", default=str(rendezvous.START_TIMEOUT), help="seconds to wait for hosts"
    )
    args, changes = options.overrides(argv, parser)
    cluster = options.hosts(args)
    if cluster is None or cluster.number is None:
        raise UserError(
            f"--hosts={args.hosts}: to compare hosts give --hosts N, 2 or more, --host-id and --coordinator"
        )
    timeout = options.parse_int("--start-timeout", args.start_timeout, 1)
    return check(cluster.number, cluster.host, cluster.coordinator, args.name, changes, timeout)


def check(
    hosts: int, host_id: int, coordinator: str, name: str | None = None, overrides: Sequence[str] = (),
    timeout: float = rendezvous.START_TIMEOUT,
) -> list[Row]:  # fmt: skip
    """One row per host, with a remedy if it is absent or differs from host 0. `timeout` is in seconds.

    Raises UserError if there are overrides without an experiment.
    """
    if not name and overrides:
        raise UserError(f"--config.{overrides[0]} needs the NAME of an experiment")
    facts = launch.host_fingerprint(config.load(name, overrides) if name else {})
    try:
        meeting = rendezvous.meet(hosts, host_id, coordinator, facts, timeout)
    except Lost as e:
        return [Row("host 0", "absent", str(e))]
    first = meeting.peers[0]
    rows = [_row(meeting, host, first) for host in range(hosts)]
    if meeting.fault and not any(row.remedy for row in rows):  # the fault of no single host, such as their number
        rows.append(Row("hosts", f"{len(meeting.peers)} of {hosts}", meeting.fault))
    return rows


def _row(meeting: Meeting, host: int, first: Peer) -> Row:
    peer = meeting.peers.get(host)
    if peer is None:
        return Row(f"host {host}", "absent", meeting.fault)
    facts = {**{key: peer.facts.get(key, "-") for key in SHOWN}, "config": digest(peer)}
    latency = f"{1e3 * peer.round_trip:.1f} ms there and back, clock {peer.ahead:+.3f} s, " if host else ""
    value = f"{peer.name}: {latency}{', '.join(f'{key} {value}' for key, value in facts.items())}"
    remedies = rendezvous.differences(peer, first)
    if abs(peer.ahead) > membership.CLOCKS:
        remedies.append(f"its clock is {peer.ahead:+.1f} s from host 0's: set both by NTP")
    return Row(f"host {host}", value, "; ".join(remedies))


def digest(peer: Peer) -> str:
    """A digest of the config, equal if all keys are equal; "-" if no experiment was named.

    >>> digest(Peer(0, 1, "a", {"python": "3.11.7"}))
    '-'
    """
    keys = {key: value for key, value in peer.facts.items() if key.startswith("--config.")}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12] if keys else "-"
