"""One run at a time: real processes, SIGKILL, and folders that change under a run."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from research.run import lock
from research.run.lock import File, Lease, Lock, holder
from research.util.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from research.run import lock
from research.util.errors import UserError
lock.RENEWAL, lock.STILL = 0.2, 1.5
try:
    MAKE
except UserError as e:
    sys.exit(f"refused: {e}")
print("held", flush=True)
sys.stdin.read()
held.release()
"""
FLOCK = "held = lock.Lock(Path(sys.argv[1]))"
LEASE = "held = lock.Lease(lock.File(Path(sys.argv[1]) / '.lease'), sys.argv[1])"


@pytest.fixture
def start():
    """Starts a process that takes a lock and keeps it until its standard input ends."""
    started = []

    def go(folder, make=FLOCK):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen([sys.executable, "-c", HOLD.replace("MAKE", make), str(folder)], env=env, **pipes)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


def held(process):
    return process.stdout.readline() == "held\n"


def refusal(process):
    out, err = process.communicate(timeout=60)
    assert out == "" and process.returncode == 1
    return err


def test_the_second_is_refused_and_told_by_whom(start, tmp_path):
    first = start(tmp_path / "run")
    assert held(first)
    told = refusal(start(tmp_path / "run"))
    assert told.startswith(f"refused: {tmp_path / 'run'}: another run is at work there (host ")
    assert f"process {first.pid}, since 2" in told and told.count("\n") == 1
    assert f"process {first.pid}," in holder(tmp_path / "run")


def test_a_killed_process_holds_nothing(start, tmp_path):
    first = start(tmp_path)
    assert held(first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert (tmp_path / lock.NAME).exists() and holder(tmp_path) is None
    assert held(start(tmp_path))


def test_a_stopped_process_holds_on(start, tmp_path):
    first = start(tmp_path)
    assert held(first)
    os.kill(first.pid, signal.SIGSTOP)
    assert "another run is at work" in refusal(start(tmp_path))


def test_of_many_at_once_one_has_it(start, tmp_path):
    processes = [start(tmp_path) for _ in range(6)]
    lines = [process.stdout.readline() for process in processes]
    assert sorted(lines) == [""] * 5 + ["held\n"]


def test_a_child_does_not_inherit_it(start, tmp_path):
    """Not by fork, and not by exec: a data worker that outlives its run must not keep the next one out."""
    children = """
    import os, subprocess
    sleeper, fork = subprocess.Popen(["sleep", "600"]), os.fork()
    if not fork:
        time.sleep(600)
    print(sleeper.pid, fork, flush=True)"""
    first = start(tmp_path, FLOCK + children)
    pids = [int(pid) for pid in first.stdout.readline().split()]
    try:
        assert held(first)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert held(start(tmp_path))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_released_it_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "a" / "b"
    first = Lock(folder)
    with pytest.raises(UserError, match="another run is at work there"):
        Lock(folder)
    first.release()
    first.release()
    assert list(tmp_path.iterdir()) == [] and holder(folder) is None
    second = Lock(folder)
    (folder / "config.json").touch()
    second.release()
    assert [p.name for p in folder.iterdir()] == ["config.json"]


def test_removed_while_it_was_waited_for(tmp_path, monkeypatch):
    """A file that its holder unlinks on release locks nothing: the one who waited takes the new one."""
    first, flock, waited = Lock(tmp_path), fcntl.flock, []

    def slow(fd, how):
        if not waited:
            waited.append(fd)
            first.release()  # after the other has opened the file
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    second = Lock(tmp_path)
    second.check()
    assert holder(tmp_path)


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_a_folder_that_goes_is_noticed(tmp_path, how):
    folder = tmp_path / "run"
    held = Lock(folder)
    held.check()
    if how == "moved":
        folder.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
    if how == "replaced":
        folder.mkdir()
        (folder / lock.NAME).touch()
    with pytest.raises(UserError, match=f"{folder}: removed or replaced while the run went on") as error:
        held.check()
    assert "\n" not in str(error.value)
    held.release()
    assert (folder / lock.NAME).exists() == (how == "replaced")


def mounted(folder, *options):
    folder.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", *options, "tmpfs", folder]).returncode:
        pytest.skip("may not mount a file system here")


def test_a_folder_that_is_unmounted_is_noticed(tmp_path):
    disk = tmp_path / "disk"
    mounted(disk)
    held = Lock(disk / "run")
    subprocess.run(["umount", "--lazy", disk], check=True)
    with pytest.raises(UserError, match="removed or replaced"):
        held.check()
    held.release()
    assert list(disk.iterdir()) == []


def test_a_read_only_folder_is_refused(tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "-o", "ro")
    try:
        with pytest.raises(UserError, match=f"^cannot write to {disk}/run: Read-only file system$"):
            Lock(disk / "run")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="cannot write to"):
        Lock(tmp_path / "run")


# Leases


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "RENEWAL", 0.2)
    monkeypatch.setattr(lock, "STILL", 1.5)


def lease(folder, **how):
    return Lease(File(folder / ".lease"), str(folder), **how)


def test_a_lease_that_moves_is_respected(start, tmp_path, quick, monkeypatch):
    first = start(tmp_path, LEASE)
    assert held(first)
    monkeypatch.setattr(lock, "STILL", 300)
    with pytest.raises(UserError, match=f"another run is at work there .*process {first.pid},"):
        lease(tmp_path)
    assert f"process {first.pid}," in holder(tmp_path) and "by a lease" in holder(tmp_path)


def test_a_lease_that_stands_still_is_taken_over(start, tmp_path, quick):
    """However wrong its clock was."""
    first = start(tmp_path, "time.time = lambda: 4e9\n    " + LEASE)
    assert held(first)
    os.kill(first.pid, signal.SIGKILL)
    mine = lease(tmp_path)
    mine.check()
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_slept_finds_its_lease_taken(start, tmp_path, quick, monkeypatch):
    mine = lease(tmp_path)
    mine.check()
    monkeypatch.setattr(mine, "_move", lambda: time.sleep(3600))  # its thread hangs
    other = start(tmp_path, LEASE)
    assert held(other)
    monkeypatch.setattr(mine, "_moved", -1e9)
    with pytest.raises(UserError, match=f"another run is at work there .*process {other.pid},"):
        mine.check()


def test_the_thread_notices_a_lease_that_was_taken_or_removed(tmp_path, quick):
    for change in (lambda slot: slot.write(b'{"token": "x", "who": "host b"}'), lambda slot: slot.remove()):
        mine = lease(tmp_path)
        change(File(tmp_path / ".lease"))
        mine._thread.join(30)
        with pytest.raises(UserError, match="(host b)|(removed or replaced)"):
            mine.check()
        mine.release()
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / ".lease").unlink()


def test_of_many_newcomers_one_has_the_lease(tmp_path):
    made, refused = [], []

    def take():
        try:
            made.append(lease(tmp_path))
        except UserError as e:
            refused.append(e)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1 and len(refused) == 3
    made[0].release()


def test_a_dead_holder_of_ones_own_home_need_not_be_watched(tmp_path, monkeypatch):
    (tmp_path / ".lease").write_text('{"token": "x", "who": "host a", "home": "spool 1", "count": 9}')
    monkeypatch.setattr(Lease, "_watch", lambda *_: pytest.fail("watched"))
    lease(tmp_path, home="spool 1").release()


def test_a_file_system_without_locks_has_a_lease(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(lock, "STILL", 300)

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first = Lock(tmp_path / "run")
    first.check()
    with pytest.raises(UserError, match="another run is at work there"):
        Lock(tmp_path / "run")
    first.release()
    Lock(tmp_path / "run").release()


@pytest.mark.parametrize("text", ["[]", "{}", '{"who": 3}', "[" * 100_000, "\xff"])
def test_who_holds_it_is_not_asked_of_an_odd_lease(tmp_path, text):
    (tmp_path / lock.LEASE).write_text(text, encoding="latin-1")
    assert lock.holder(tmp_path) is None


def test_who_holds_it_is_not_asked_of_a_pipe_or_a_link(tmp_path):
    """A pipe would wait for ever."""
    os.mkfifo(tmp_path / lock.NAME)
    (tmp_path / lock.LEASE).symlink_to("/etc/passwd")
    assert lock.holder(tmp_path) is None


def test_a_link_in_place_of_the_lock_is_not_written_through(tmp_path):
    (tmp_path / "other").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / lock.NAME).symlink_to("../other")
    with pytest.raises(UserError, match=f"cannot write to {run}"):
        Lock(run)
    assert (tmp_path / "other").read_text() == "mine"
