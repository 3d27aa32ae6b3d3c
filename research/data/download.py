"""Upstream files: found in the user's folder, else in the cache, else downloaded; always checked.

ALMANAC_MIRROR   a folder of upstream files, as <dataset>/<name> or <name>, each perhaps gzipped as
                 <name>.gz; it is only read
ALMANAC_DATA     where downloads and prepared data sets go (else $XDG_CACHE_HOME/almanac, else
                 ~/.cache/almanac)
ALMANAC_OFFLINE  1: never touch the network
"""

import gzip
import hashlib
import http.client
import itertools
import os
import queue
import shutil
import sys
import tempfile
import threading
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from research.util.errors import UserError

CONNECT_SECONDS = 4  # until the first answer, name look-up included
TRIES = 3  # of a download that had begun; one that never connects is not tried again


class File(NamedTuple):
    """One upstream file. `sha256` is of the file as it is stored upstream, `size` in bytes."""

    name: str
    url: str
    sha256: str
    size: int


def data_folder() -> Path:
    """Where downloads and prepared data sets are kept."""
    if folder := os.environ.get("ALMANAC_DATA"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "almanac"


def fetch(dataset: str, files: Sequence[File]) -> dict[str, Path]:
    """Paths, by name, of checked local copies of `files`.

    Raises UserError at once if a copy is damaged, or if one is missing and cannot be downloaded.
    """
    cache = data_folder() / "downloads" / dataset
    found = {file.name: path for file in files if (path := _find(dataset, file, cache))}
    missing = [file for file in files if file.name not in found]
    for file in missing:
        found[file.name] = _download(dataset, file, cache, len(missing))
    return found


def has(dataset: str, file: File) -> bool:
    """Whether there is a checked local copy: `fetch` would not touch the network."""
    return _find(dataset, file, data_folder() / "downloads" / dataset) is not None


def read(path: Path) -> bytes:
    """The bytes of a file that `fetch` gave; those of a `.gz` unpacked."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f:
        return f.read()


def _find(dataset: str, file: File, cache: Path) -> Path | None:
    places = [cache / file.name]
    if folder := os.environ.get("ALMANAC_MIRROR"):
        mirror = Path(folder).expanduser()
        if not mirror.is_dir():
            raise UserError(f"ALMANAC_MIRROR={folder} is not a folder")
        places = [mirror / dataset / file.name, mirror / file.name, *places]
    for path in itertools.chain(*((path, path.with_name(f"{path.name}.gz")) for path in places)):
        if path.is_file():
            if fault := _fault(path, file):
                raise UserError(f"{dataset}: {path} is damaged: {fault}; replace or remove it")
            return path
    return None


def _fault(path: Path, file: File) -> str:
    """What is wrong with the copy at `path`; empty if nothing is. A gzipped copy is judged by what it holds."""
    packed = path.name == f"{file.name}.gz"
    if not packed and (size := path.stat().st_size) != file.size:
        return f"expected {file.size:,} bytes, found {size:,}"
    try:
        with (gzip.open if packed else open)(path, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"not whole: {error}"
    return "" if digest == file.sha256 else f"expected sha256 {file.sha256}, found {digest}"


def _download(dataset: str, file: File, cache: Path, missing: int) -> Path:
    reason = "ALMANAC_OFFLINE is set" if file.url else "it has no address"
    if file.url and os.environ.get("ALMANAC_OFFLINE") not in ("1", "true"):
        try:
            return _transfer(file, cache)
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
    many = f" (the first of {missing} missing)" if missing > 1 else ""
    raise UserError(
        f"{dataset}: no copy of {file.name}{many} and {file.url or 'a download'} could not be had ({reason}); "
        f"set ALMANAC_MIRROR to a folder that holds it, or put it into {cache} "
        f"({file.size:,} bytes, sha256 {file.sha256})"
    )


def _transfer(file: File, cache: Path) -> Path:
    """Downloads into a temporary name and renames, so that a file in the cache is always whole."""
    cache.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        with _connect(file.url) as response:
            print(f"downloading {file.url} ({file.size / 1e6:.1f} MB)", file=sys.stderr)
            handle, name = tempfile.mkstemp(dir=cache, prefix=f".{file.name}.")
            partial = Path(name)
            try:
                with os.fdopen(handle, "wb") as f:
                    shutil.copyfileobj(response, f)
                if not (fault := _fault(partial, file)):
                    partial.chmod(0o644)  # mkstemp's 0600 would hide a shared cache from others
                    return partial.rename(cache / file.name)
            except (OSError, http.client.HTTPException) as error:
                fault = str(error)
            finally:
                partial.unlink(missing_ok=True)
    raise OSError(f"damaged {TRIES} times: {fault}")


def _connect(url: str):
    """`urlopen`, given up after CONNECT_SECONDS: a silent name server would hold it for minutes."""
    answer: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            answer.put(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            answer.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = answer.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS} s") from None
    if isinstance(result, Exception):
        raise result
    return result
