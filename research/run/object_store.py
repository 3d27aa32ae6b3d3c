"""Run directories in object stores: s3://bucket/dir and gs://bucket/dir.

A store can neither append to a file nor rename a folder, and Orbax (to s3://) does not write to it. So a run works in a local
folder as any run does, its spool, and what is finished is copied up: a checkpoint's files first, its manifest last. A
checkpoint without a manifest does not exist.
"""

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from research.run import manifest
from research.run.lock import NAME as LOCK
from research.run.lock import Lease, Lock
from research.util import home
from research.util.errors import UserError
from research.util.files import write_errors, write_text

EXTRAS = {"s3": "s3", "gs": "gcs"}  # the part of a URL before ://, and the extra that it needs
PARENTS = ("best", "checkpoints")  # their folders are copied whole or not at all, in this order
MANIFEST = manifest.NAME
OWNER = ".owner"  # in the store: which spool was copied last; in a spool: its own name
SHARED = 60.0  # seconds: by then a shared spool has been seen by all hosts, also where a dead run had to be waited for
LONGEST = 255  # bytes of a file's name
TRIES = 3  # a reader's, while a run may be deleting what it reads


def is_remote(workdir: str | Path) -> bool:
    return "://" in _url(workdir)


def check(workdir: str | Path) -> None:
    """Raises UserError for a URL of a kind that is not known, which would become a folder `http:`, and for no file's name."""
    if (found := re.match(r"([a-z][a-z0-9+.-]+):/", str(workdir), re.IGNORECASE)) and found[1] not in EXTRAS:
        raise UserError(f"{workdir}: no place for a run; give a folder, s3://BUCKET/DIR or gs://BUCKET/DIR")
    long = next((part for part in Path(workdir).parts if len(part.encode("utf-8", "surrogateescape")) > LONGEST), None)
    if long or "\0" in str(workdir):
        shown = f"{long[:60]}..., {len(long)} characters," if long else repr(str(workdir))
        raise UserError(f"the run directory {shown} has a name that no file can have; give a shorter one")


def _url(workdir: str | Path) -> str:
    """A pathlib.Path has made s3:/bucket/dir of a URL."""
    return re.sub(rf"^({'|'.join(EXTRAS)}):/+", r"\1://", str(workdir)).rstrip("/")


def local(workdir: str | Path) -> Path:
    """Where a run's files are on this machine: the folder itself, or the spool of a URL."""
    check(workdir)
    if not is_remote(workdir):
        return Path(workdir).absolute()
    url = _url(workdir)
    spool = Path(os.environ.get("ALMANAC_SPOOL") or home.cache_folder() / "almanac" / "spool")
    return spool.absolute() / f"{url.rsplit('/', 1)[1]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def fetch(workdir: str | Path, newest: bool = True) -> Path:
    """A folder to read a run from: itself, or a copy, made now, of what a store holds. `newest`: not the older checkpoints."""
    check(workdir)
    if not is_remote(workdir):
        return Path(workdir)
    spool = local(workdir)
    view = spool.with_name(f"{spool.name}.view")  # a run on this machine keeps its spool to itself
    store = Store(workdir)
    for more in reversed(range(TRIES)):
        try:
            _pull(store, view, newest=newest)
            break
        except FileNotFoundError:
            if not more:
                raise UserError(f"{_url(workdir)}: it changes faster than it can be read; try again") from None
    return view


def publish(workdir: str | Path, *paths: Path) -> None:
    """Copies up what was written into the local folder after its run had ended."""
    if is_remote(workdir):
        folder = local(workdir)
        Store(workdir).put(folder, [path.relative_to(folder).as_posix() for path in paths if path.is_file()])


class Place:
    """A run directory in the hands of one run. UserError if another has it, or if it cannot be written.

    `local` is the folder to work in. Of several processes one `writes`; the others wait for it.
    """

    def __init__(self, workdir: str | Path, writes: bool = True):
        self.name, self.local = _url(workdir), local(workdir)
        self._locks: list[Lock | Lease] = []
        self._thread: threading.Thread | None = None
        self._problem: str | None = None
        self._store = Store(workdir) if is_remote(workdir) else None
        if not writes:
            self.join()
            return
        try:
            self._locks.append(Lock(self.local))
            if self._store is not None:
                self._open(self._store)
        except BaseException:
            self._release()
            raise

    def _open(self, store: "Store") -> None:
        home = _identity(self.local)
        self._locks.append(Lease(_Object(store, LOCK), self.name, home))
        # What this spool copied last, with nobody after it, is the same here, or older: nothing need be fetched.
        self._there = _pull(store, self.local, mine=store.read(OWNER) == home.encode())
        store.write(OWNER, home.encode())
        self._stamps: dict[str, tuple] = {}
        self._queue: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="upload", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """For a process that does not write: waits for the one that does. UserError if that works in another spool."""
        if self._store is None:
            return
        mark, end = self.local / OWNER, time.monotonic() + SHARED
        while not mark.exists() or _home(self._store) != mark.read_text(encoding="utf-8"):
            if time.monotonic() > end:
                raise UserError(
                    f"{self.name}: this host has a spool of its own, {self.local.parent}; "
                    "set ALMANAC_SPOOL to a folder that all hosts share"
                )
            time.sleep(SHARED / 100)
        while self._store.read(OWNER) != mark.read_bytes():  # it is being filled
            time.sleep(SHARED / 100)

    def check(self) -> None:
        """Before a save: UserError if the folder has gone or another run has taken it. A warning where a copy failed."""
        for lock in self._locks:
            lock.check()
        if self._problem:
            warnings.warn(f"{self._problem}; the run goes on in {self.local}, and is copied later", stacklevel=2)
            self._problem = None

    def push(self, checkpoint: Path) -> None:
        """Copies up, in a thread, what has changed, when `checkpoint` has its manifest (or another is asked for)."""
        if self._thread is not None:
            self._queue.put(checkpoint)

    def close(self, quiet: bool = False) -> None:
        """Copies up the rest and lets go. UserError, or a warning if `quiet`, where that fails."""
        try:
            if self._thread is not None:
                self._queue.put(None)
                self._thread.join()
                self._thread = None
                self._seal()
                self._copy()
                self._tidy()
        except UserError as e:
            problem = f"{e}; the run is whole in {self.local}: start again on this machine to copy it"
            if not quiet:
                raise UserError(problem) from None
            warnings.warn(problem, stacklevel=2)
        finally:
            self._release()

    def _seal(self) -> None:
        """Only now: a file written into a checkpoint that Orbax is deleting would end the run."""
        with write_errors(self.local):
            for unit in _units(self.local):
                if not manifest.exists(self.local / unit):
                    manifest.write(self.local / unit)

    def _tidy(self) -> None:
        """Removes what a run that ended in a user error has written."""
        if all(name.startswith(".") for name in self._store.find()):
            self._store.remove([OWNER])
            (self.local / OWNER).unlink()

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()

    def _serve(self) -> None:
        while (checkpoint := self._queue.get()) is not None:
            while not manifest.exists(checkpoint) and self._queue.empty():
                time.sleep(0.1)
            try:
                self._copy()
                self._problem = None
            except Exception as e:
                self._problem = str(e)

    def _copy(self) -> None:
        """Makes the store what the folder is. At any moment it holds a run that could go on."""
        with write_errors(self.local):
            self._copy_all()

    def _copy_all(self) -> None:
        for lock in self._locks:
            lock.check()
        found = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in _loose(self.local)}
        stamps = {path.relative_to(self.local).as_posix(): stamp for path, stamp in found.items()}
        changed = [name for name, stamp in stamps.items() if self._stamps.get(name) != stamp]
        self._store.put(self.local, changed)
        self._stamps = stamps
        units = list(_units(self.local))
        for unit in units:
            try:
                self._copy_unit(unit)
            except FileNotFoundError:  # no manifest yet, or no longer kept
                continue
        for unit in set(self._there) - set(units):
            self._drop(unit)

    def _copy_unit(self, unit: str) -> None:
        folder = self.local / unit
        text = (folder / MANIFEST).read_bytes()
        if self._there.get(unit) == text:
            return
        if unit in self._there:
            self._drop(unit)
        names = [name for name in json.loads(text) if name != MANIFEST]
        if _is_damaged(unit):
            names = [name for name in names if (folder / name).exists()]
        self._store.put(folder, names, unit)
        self._store.write(f"{unit}/{MANIFEST}", text)
        self._there[unit] = text

    def _drop(self, unit: str) -> None:
        self._store.remove([f"{unit}/{MANIFEST}"])
        self._there.pop(unit)
        self._store.remove(self._store.find(unit))


class Store:
    """The objects under a URL, by their names below it. What goes wrong is a UserError; what is not there, None."""

    def __init__(self, url: str | Path):
        import fsspec

        self.url = _url(url)
        kind, _, rest = self.url.partition("://")
        if kind not in EXTRAS or "/" not in rest:
            raise UserError(f"{self.url}: no place for a run; give a folder, s3://BUCKET/DIR or gs://BUCKET/DIR")
        try:
            with self._errors(ImportError):
                self._fs, self._root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except ImportError:
            raise UserError(
                f"{self.url}: needs the extra [{EXTRAS[kind]}]; .venv/bin/python -m pip install 'almanac[{EXTRAS[kind]}]'"
            ) from None

    def find(self, under: str = "") -> list[str]:
        with self._errors():
            found = self._fs.find(f"{self._root}/{under}" if under else self._root)
        return sorted(name.removeprefix(f"{self._root}/") for name in found)

    def read(self, name: str) -> bytes | None:
        try:
            with self._errors(FileNotFoundError):
                return self._fs.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        with self._errors():
            self._fs.pipe_file(f"{self._root}/{name}", data)

    def put(self, folder: Path, names: Iterable[str], under: str = "") -> None:
        """Copies files up, several at a time. FileNotFoundError if one is not there."""
        paths = {name: folder / name for name in names}
        into = f"{self._root}/{under}".rstrip("/")
        try:
            if paths:
                with self._errors():
                    self._fs.put([str(path) for path in paths.values()], [f"{into}/{name}" for name in paths])
        finally:
            for path in paths.values():
                path.stat()

    def get(self, names: Iterable[str], paths: Iterable[Path]) -> None:
        """Copies down. FileNotFoundError if one is not there."""
        names, paths = [f"{self._root}/{name}" for name in names], list(paths)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        if names:
            with self._errors(FileNotFoundError):
                self._fs.get(names, [str(path) for path in paths])

    def remove(self, names: Iterable[str]) -> None:
        if names := [f"{self._root}/{name}" for name in names]:
            with contextlib.suppress(FileNotFoundError), self._errors(FileNotFoundError):
                self._fs.rm(names)

    @contextlib.contextmanager
    def _errors(self, *through: type[Exception]) -> Iterator[None]:
        """The clients raise dozens of kinds."""
        try:
            yield
        except through:
            raise
        except Exception as e:
            words = (str(e).splitlines() or [""])[0][:200].rstrip(".")
            raise UserError(
                f"{self.url}: {type(e).__name__}: {words}; see to the bucket, the credentials or the network"
            ) from e


class _Object:
    """A lease's slot in a store."""

    def __init__(self, store: Store, name: str):
        self._store, self._name = store, name

    def read(self) -> bytes | None:
        return self._store.read(self._name)

    def write(self, data: bytes) -> None:
        self._store.write(self._name, data)

    def remove(self) -> None:
        self._store.remove([self._name])


def _home(store: Store) -> str:
    """The spool of whoever holds the lease."""
    try:
        return json.loads(store.read(LOCK) or b"{}").get("home", "")
    except (ValueError, AttributeError):
        return ""


def _identity(spool: Path) -> str:
    mark = spool / OWNER
    if not mark.exists():
        write_text(mark, uuid.uuid4().hex)
    return mark.read_text(encoding="utf-8")


def _is_unit(parts: tuple[str, ...]) -> bool:
    """checkpoints/30, checkpoints/30.damaged; not checkpoints/30.orbax-checkpoint-tmp or 30.part."""
    step, _, rest = parts[1].partition(".") if len(parts) > 1 else ("", "", "")
    return parts[0] in PARENTS and step.isdigit() and (not rest or rest.startswith("damaged"))


def _is_damaged(unit: str) -> bool:
    return ".damaged" in unit


def _units(folder: Path) -> Iterator[str]:
    for parent in PARENTS:
        for path in sorted((folder / parent).glob("*")):
            if path.is_dir() and _is_unit((parent, path.name)):
                yield f"{parent}/{path.name}"


def _loose(folder: Path) -> Iterator[Path]:
    """Every other file that is finished, or grows."""
    for top in folder.iterdir():  # what Orbax is writing vanishes while one looks
        if top.name not in PARENTS and not top.name.startswith("."):
            yield from (p for p in (top, *top.rglob("*")) if p.suffix != ".part" and p.is_file())


def _pull(store: Store, folder: Path, mine: bool = False, newest: bool = False) -> dict[str, bytes]:
    """Makes the folder what the store is -> {whole checkpoint: its manifest}. `mine`: what the folder has beyond it stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (path for parent in PARENTS for path in (folder / parent).glob("*.part")):
        shutil.rmtree(part)  # of a copy that was killed
    names = store.find()
    whole = [n.removesuffix(f"/{MANIFEST}") for n in names if n.count("/") == 2 and n.endswith(f"/{MANIFEST}")]
    there = {unit: text for unit in whole if (text := store.read(f"{unit}/{MANIFEST}")) is not None}
    good: set[str] = set()
    for unit in sorted(there, key=_age):
        if newest and any(Path(unit).parent == Path(other).parent for other in good):
            continue
        if _has(folder / unit, None if mine else there[unit]) or _pull_unit(store, folder, unit, there[unit], newest):
            good.add(unit)
    if not mine:
        loose = [n for n in names if n.split("/")[0] not in PARENTS and not n.startswith(".")]
        store.get(loose, [folder / name for name in loose])
        for path in set(_loose(folder)) - {folder / name for name in loose}:
            path.unlink()
        for unit in set(_units(folder)) - good:
            if not _is_damaged(unit):
                shutil.rmtree(folder / unit)
    return there


def _age(unit: str) -> tuple[bool, int]:
    """Newest first, what was set aside last."""
    return _is_damaged(unit), -int(Path(unit).name.split(".")[0])


def _has(folder: Path, text: bytes | None) -> bool:
    """Whether the checkpoint is here, by the sizes of its files: with this manifest, or None: with whichever it has."""
    mark = folder / MANIFEST
    if not folder.is_dir() or (text is not None and not mark.exists()):
        return False
    if not mark.exists():
        return True  # saved, and then killed
    try:
        wanted = json.loads(mark.read_bytes())
        sizes = {name: wanted[name][0] for name in wanted if name != MANIFEST}
    except (ValueError, LookupError, TypeError):
        return False
    found = {name: path.stat().st_size for name, path in manifest.files(folder) if path != mark}
    return found == sizes and text in (None, mark.read_bytes())


def _pull_unit(store: Store, folder: Path, unit: str, text: bytes, newest: bool) -> bool:
    """Copies a checkpoint down -> whether it is whole. A damaged one is set aside, or by a reader left where it is."""
    part = folder / f"{unit}.part"
    for _ in range(2):  # what was damaged on its way is not the second time
        shutil.rmtree(part, ignore_errors=True)
        names = [n for n in store.find(unit) if n.removeprefix(f"{unit}/") in json.loads(text)]
        store.get(names, [part / name.removeprefix(f"{unit}/") for name in names])
        problems = manifest.problems(part)
        if not problems or _is_damaged(unit):
            shutil.rmtree(folder / unit, ignore_errors=True)
            part.rename(folder / unit)
            return True
    if store.read(f"{unit}/{MANIFEST}") != text:
        raise FileNotFoundError(unit)  # deleted while it was read
    aside = ""
    if newest:
        shutil.rmtree(part)
    else:
        free = (Path(f"{unit}.damaged{n}") for n in ("", *(f".{n}" for n in range(2, 1000))))
        name = next(path for path in free if not (folder / path).exists())
        part.rename(folder / name)
        aside = f"; set aside as {name.name}"
    warnings.warn(f"checkpoint {store.url}/{unit} is damaged: {problems[0]}{aside}", stacklevel=2)
    return False
