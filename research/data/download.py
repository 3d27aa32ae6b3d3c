"""Upstream files: from the user's folder, else from the cache, else downloaded; the checksum is always verified.

ALMANAC_MIRROR   a read-only folder of upstream files, as <dataset>/<name> or <name>, optionally gzipped
                 as <name>.gz
ALMANAC_DATA     the folder for downloads and prepared data sets (default: $XDG_CACHE_HOME/almanac, or
                 ~/.cache/almanac)
ALMANAC_OFFLINE  1: never use the network
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

from research.util import home
from research.util.errors import UserError

CONNECT_SECONDS = 4  # until the server responds, name resolution included
TRIES = 3  # attempts of a download that began; a failed connection is not retried


class File(NamedTuple):
    """One upstream file. `sha256` is of the file as it is stored upstream, `size` in bytes."""

    name: str
    url: str
    sha256: str
    size: int


def data_folder() -> Path:
    """The folder of downloads and prepared data sets."""
    if folder := os.environ.get("ALMANAC_DATA"):
        return home.expanded(folder, "ALMANAC_DATA")
    return home.expanded(home.cache_folder(), "XDG_CACHE_HOME") / "almanac"


def fetch(dataset: str, files: Sequence[File]) -> dict[str, Path]:
    """{name: path of a verified local copy} of `files`.

    Raises UserError if a copy is corrupted, or if one is missing and cannot be downloaded.
    """
    cache = data_folder() / "downloads" / dataset
    paths = {file.name: path for file in files if (path := _find(dataset, file, cache))}
    missing = [file for file in files if file.name not in paths]
    for file in missing:
        paths[file.name] = _download(dataset, file, cache, len(missing))
    return paths


def has(dataset: str, file: File) -> bool:
    """Whether there is a verified local copy, so that `fetch` needs no network."""
    return _find(dataset, file, data_folder() / "downloads" / dataset) is not None


def read(path: Path) -> bytes:
    """The bytes of a file from `fetch`; a `.gz` is decompressed."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f:
        return f.read()


def _find(dataset: str, file: File, cache: Path) -> Path | None:
    candidates = [cache / file.name]
    if folder := os.environ.get("ALMANAC_MIRROR"):
        mirror = home.expanded(folder, "ALMANAC_MIRROR")
        if not mirror.is_dir():
            raise UserError(f"ALMANAC_MIRROR={folder} is not a folder")
        candidates = [mirror / dataset / file.name, mirror / file.name, *candidates]
    for path in itertools.chain(*((path, path.with_name(f"{path.name}.gz")) for path in candidates)):
        if path.is_file():
            if fault := _fault(path, file):
                raise UserError(f"{dataset}: {path} is damaged: {fault}; replace or remove it")
            return path
    return None


def _fault(path: Path, file: File) -> str:
    """The fault of the copy at `path`; empty if it is intact. Of a gzipped copy the content is checked."""
    gzipped = path.name == f"{file.name}.gz"
    if not gzipped and (size := path.stat().st_size) != file.size:
        return f"expected {file.size:,} bytes, found {size:,}"
    try:
        with (gzip.open if gzipped else open)(path, "rb") as f:
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
    """Downloads to a temporary name and renames, so that files in the cache are always complete."""
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
    """`urlopen` with a limit of CONNECT_SECONDS that includes name resolution, which may otherwise take minutes."""
    results: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            results.put(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))
        except (OSError, http.client.HTTPException) as error:
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS} s") from None
    if isinstance(result, Exception):
        raise result
    return result
