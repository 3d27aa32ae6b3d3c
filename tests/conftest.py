"""What every test runs under: eight CPU devices, a compilation cache, no network."""

import ipaddress
import os
import shutil
import socket
import subprocess
from pathlib import Path

import jaxtyping
import pytest

from research.cluster import cpu
from tests import typechecker
from tests.contract import tiers

# JAX reads these when it is imported, which no conftest or plugin has done yet.
# XLA aborts the process when eight devices of a crowded machine take 40 s to meet at a sum.
FLAGS = {"--xla_force_host_platform_device_count": 8, "--xla_cpu_collective_call_terminate_timeout_seconds": 600}
for flag, number in FLAGS.items():
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}={number}".strip()
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
for name, value in {
    "HF_HUB_OFFLINE": "1",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "almanac" / "jit"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "agg",
}.items():
    os.environ.setdefault(name, value)

cpu.tune()  # as every verb does

# Before anything imports these rooms: every call in a test's process then checks the types of arguments and results, the
# shapes and dtypes of arrays too.
ROOMS = [f"research.{room}" for room in ("evals", "losses", "models", "nn")]
jaxtyping.install_import_hook(ROOMS, f"{typechecker.__name__}.check")

MIRROR = os.environ.get("ALMANAC_MIRROR")
# A compiled program takes several memory maps. Linux gives a process 65,530; beyond them XLA ends it.
MOST_MAPS = 20_000


def pytest_report_header(config: pytest.Config) -> str:
    return f"data mirror: {MIRROR or 'none (ALMANAC_MIRROR is not set)'}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Workers share out files, and of the contract families, whose fixtures and compiled programs then serve all their tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return tiers.scope(nodeid)

        def remove_node(self, node: object) -> str | None:
            """A test that ended its worker is not run again, nor is a file that was done: xdist does both, and waits for ever."""
            files = self.assigned_work[node]
            ended = next((test for tests in files.values() for test, done in tests.items() if not done), None)
            if ended is None:
                return super().remove_node(node)
            del self.assigned_work[node]
            for name, tests in files.items():
                if ended in tests:
                    tests[ended] = True
                if not all(tests.values()):
                    self.workqueue[name] = tests
            for other in self.assigned_work:
                self._reschedule(other)
            return ended

    config.option.loadscopereorder = False  # short files stand at the end, where workers run out of work
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips, under plain `pytest` too, what cannot run here."""
    quick = tiers.quick()
    for item in items:
        family = getattr(item, "callspec", None) and item.callspec.params.get("family")
        if item.get_closest_marker("contract") and family in quick:
            item.add_marker(pytest.mark.quick)
        if item.get_closest_marker("data") and not MIRROR:
            item.add_marker(pytest.mark.skip(reason="needs real data: ALMANAC_MIRROR is not set"))
        if item.get_closest_marker("gpu") and os.environ["JAX_PLATFORMS"] == "cpu":
            item.add_marker(pytest.mark.skip(reason="needs a GPU: almanac test --gpu"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between files, and families of the contract, forgets compiled programs before there are too many."""
    if nextitem is None or tiers.scope(item.nodeid) == tiers.scope(nextitem.nodeid):
        return
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        import jax  # not at the top, where the environment is not set yet

        jax.clear_caches()


class NetworkBlocked(ConnectionError):
    """A test reached for another machine. Code that handles a failing network sees one."""


def _is_local(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Lets Python's sockets reach loopback and nothing else; name look-ups count."""
    look_up = socket.getaddrinfo

    def refuse(host):
        if not _is_local(host):
            raise NetworkBlocked(f"the tests may not use the network, and this one wants {host}")

    def guard_socket(connect):
        def guarded(self, address):
            if self.family != socket.AF_UNIX:
                refuse(address[0])
            return connect(self, address)

        return guarded

    def getaddrinfo(host, *args, **kwargs):
        refuse(host)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guard_socket(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guard_socket(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True, scope="session")
def unchecked_export():
    """Types are not checked while a function is exported: symbolic sizes are no ints, and equal if JAX can prove it."""
    from jax import export  # not at the top, where the environment is not set yet

    def unchecked(*args, **options):
        def trace(*specs, **named):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
                return plain(*args, **options)(*specs, **named)

        return trace

    plain = export.export
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export", unchecked)
        yield


@pytest.fixture
def small_disk(request, tmp_path):
    """A file system of 64 kB, or of a size like "600k": `@pytest.mark.parametrize("small_disk", ["600k"], indirect=True)`."""
    disk, size = tmp_path / "disk", getattr(request, "param", "64k")
    disk.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
