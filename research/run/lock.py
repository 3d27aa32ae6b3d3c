"""One run at a time in a run directory.

On a local disk the kernel keeps the lock, and frees it however the process dies. Where the kernel has none (object stores,
some network file systems) a lease does: its holder's thread moves a counter, and a newcomer takes over one that stands still.
No two clocks are compared.

The library filelock (4.2) lacks of that: its FileLock does not tell the refused who holds, nor the holder that the folder was
removed or replaced (a second one may then hold, too), leaves its file and the folders that it made, and raises where a file
system has no locks, but for ENOSYS. Its SoftFileLease needs a local path, and takes over a dead host's by exchanging two names
in one step, which NFS and SMB refuse: there that one holds for ever.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
import weakref
from pathlib import Path
from typing import Any, Protocol

from research.util import run_files
from research.util.errors import UserError
from research.util.files import gone, write_errors, write_text

NAME, LEASE = ".lock", ".lease"
RENEWAL = 5.0  # seconds between two moves of a lease's counter
STILL = 3 * RENEWAL  # a counter that stands so long has lost its holder
PATIENCE = 1.0  # seconds: `holder` takes the lock for a moment, and a process that ends may still hold it
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock:
    """Holds a local folder, made if need be, until `release` or the end of the process. UserError if another does."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._made = [p for p in (folder, *folder.parents) if not p.exists()]  # deepest first
        self._lease: Lease | None = None
        self._fd: int | None = None
        try:
            with write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._take()
        except BaseException:
            self.release()
            raise
        _held.add(self)

    def _take(self) -> None:
        try:
            self._fd = _acquire(self.folder / NAME)
        except OSError as e:
            if e.errno not in NO_LOCKS:
                raise
            self._lease = Lease(File(self.folder / LEASE), str(self.folder))
        else:
            _write_all(self._fd, _who())

    def check(self) -> None:
        """UserError if the folder was removed, replaced or unmounted since."""
        if self._lease is not None:
            self._lease.check()
        elif self._fd is not None and not _is(self._fd, self.folder / NAME):
            raise gone(self.folder)

    def release(self) -> None:
        """Frees the folder, and takes it away again if it was made for this and is empty."""
        if self._lease is not None:
            self._lease.release()
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                if _is(fd, self.folder / NAME):
                    (self.folder / NAME).unlink()
            os.close(fd)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _forget(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in _held:
        lock._forget()


# A forked child would else keep the lock after its parent's death; a child that execs loses it by itself.
os.register_at_fork(after_in_child=_forget_all)


def holder(folder: Path) -> str | None:
    """Who holds a local folder now, in words. A lease is taken for held: only watching it would tell."""
    with contextlib.suppress(UserError):
        lease = run_files.read_object(run_files.inside(folder, LEASE), run_files.Shape({"who": run_files.TEXT}))
        return f"{lease['who']}, by a lease"
    with contextlib.suppress(OSError):
        fd = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(fd)
        finally:
            os.close(fd)
    return None


def _acquire(path: Path) -> int:
    end = time.monotonic() + PATIENCE
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # close-on-exec, as all that Python opens
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            who = _read(fd)
            os.close(fd)
            if not isinstance(e, BlockingIOError):
                raise
            if time.monotonic() > end:
                raise _busy(path.parent, who) from None
            time.sleep(PATIENCE / 20)
            continue
        if _is(fd, path):
            return fd
        os.close(fd)  # its holder ended, and removed it, after we had opened it


def _is(fd: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _read(fd: int) -> str:
    return os.pread(fd, 300, 0).decode("utf-8", "replace").strip() or "starting"


def _write_all(fd: int, text: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)


def _who() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"host {socket.gethostname()}, process {os.getpid()}, since {since}"


def _busy(folder: Any, who: str) -> UserError:
    return UserError(f"{folder}: another run is at work there ({who}); wait for it, stop it, or give another --workdir")


class Slot(Protocol):
    """A place for a few bytes that are written whole."""

    def read(self) -> bytes | None: ...
    def write(self, data: bytes) -> None: ...
    def remove(self) -> None: ...


class File:
    """A slot that is a local file."""

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> bytes | None:
        return self._path.read_bytes() if self._path.exists() else None

    def write(self, data: bytes) -> None:
        write_text(self._path, data.decode())

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Lease:
    """Holds what `name` names by a counter in `slot` that a thread moves.

    `home`: a secret of what only one living process can have, such as a locked local folder. A lease of the same home is of a
    process that is dead, and need not be watched.
    """

    def __init__(self, slot: Slot, name: str, home: str = ""):
        self._slot, self._name = slot, name
        self._mine = {"token": uuid.uuid4().hex, "who": _who(), "home": home}
        self._count, self._lost = 0, False
        found = self._find()
        if found and not (home and found.get("home") == home):
            self._watch(found)
        self._move()
        time.sleep(RENEWAL / 5)  # another newcomer may have written at the same moment: the last one has it
        if not self._holds():
            raise _busy(name, (self._find() or {}).get("who", "starting"))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """UserError if another run has taken over or the lease was removed, or where neither can be found out."""
        if not self._lost and time.monotonic() - self._moved > STILL:  # this process, or the store, stood still
            self._lost = not self._holds()
        if not self._lost:
            return
        if found := self._find():
            raise _busy(self._name, found.get("who", ""))
        raise gone(self._name)

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # out of reach: it stands still from now on, which frees it, too
            if self._holds():
                self._slot.remove()

    def _find(self) -> dict | None:
        data = self._slot.read()
        try:
            return None if data is None else dict(json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return {}  # held by nobody that we know

    def _holds(self) -> bool:
        return (self._find() or {}).get("token") == self._mine["token"]

    def _watch(self, found: dict) -> None:
        end = time.monotonic() + STILL
        while time.monotonic() < end:
            time.sleep(RENEWAL / 10)
            now = self._find()
            if now is None:
                return
            if now != found:
                raise _busy(self._name, now.get("who", "starting"))

    def _move(self) -> None:
        self._count += 1
        self._slot.write(json.dumps({**self._mine, "count": self._count}).encode())
        self._moved = time.monotonic()

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            with contextlib.suppress(Exception):  # out of reach for a moment; `check` tells if it is for long
                if not self._holds():
                    self._lost = True
                    return
                self._move()
