"""A folder's files with their sizes and checksums, kept in it as files.json, so that damage is named by its file.

The manifest has a checksum of its own: a damaged one accuses no file.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from research.util.files import write_text
from research.util.run_files import LARGEST

NAME = "files.json"
CHUNK = 1 << 20  # bytes read at once
# What is parsed whole of a checkpoint, by us or by Orbax. Orbax gives no bound, and a stranger's file may have any size.
PARSED = ("_CHECKPOINT_METADATA", "meta/metadata", "checksums/metadata", "state/_METADATA", "state/_sharding", NAME)

Files = dict[str, tuple[int, int]]


def write(folder: Path) -> None:
    """Puts `{path: [size in bytes, CRC-32]}` of all that is in `folder` into it, whole or not at all."""
    sizes = scan(folder)
    write_text(folder / NAME, _text({**sizes, NAME: _own(sizes)}) + "\n")


def exists(folder: Path) -> bool:
    return (folder / NAME).exists()


def problems(folder: Path) -> list[str]:
    """A line for each file that is missing, cut short, changed, new or a link since `write`; none if all is as it was.

    A folder without a manifest has one problem: that. A process killed before writing it leaves the files intact.
    """
    try:
        if odd := irregular(folder) or oversized(folder):
            return odd
        recorded = _read(folder)
    except FileNotFoundError:
        return [f"{NAME} is missing"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        return [f"{NAME} is damaged ({type(e).__name__}): its files cannot be checked"]
    sizes = scan(folder)
    lines = [_compare(name, recorded.get(name), sizes.get(name)) for name in sorted({*recorded, *sizes})]
    return [line for line in lines if line]


def scan(folder: Path) -> Files:
    """{relative path: (size, CRC-32)} of every file but the manifest, and what a kill has left of one, by name."""
    return {name: _sum(path) for name, path in sorted(files(folder)) if name not in (NAME, f"{NAME}.part")}


def irregular(folder: Path) -> list[str]:
    """A line for each link, pipe or device at any depth: no run makes any, and to read one may lead out or never end."""
    found = [(name, path, os.path.islink(path)) for name, path in sorted(files(folder))]
    return [
        f"{name} is {'a link' if linked else 'no regular file'}"
        for name, path, linked in found
        if linked or (path.exists() and not path.is_file())
    ]


def oversized(folder: Path) -> list[str]:
    """A line for each file of PARSED that is larger than any that was ever written."""
    sizes = {name: _size(folder / name) for name in PARSED if (folder / name).is_file()}
    return [f"{name} has {size:,} bytes, more than {LARGEST:,}" for name, size in sizes.items() if size > LARGEST]


def _size(path: Path) -> int:
    with path.open("rb") as file:  # a path of an object store has another `stat`
        return file.seek(0, os.SEEK_END)


def files(folder: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file at any depth, and of every link, which is not followed."""
    # Not rglob or walk: paths of object stores have neither that works, nor has pathlib's before Python 3.12 the second.
    for path in folder.iterdir():
        if path.is_dir() and not os.path.islink(path):
            yield from files(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, path


def _compare(name: str, wanted: tuple[int, int] | None, found: tuple[int, int] | None) -> str:
    if wanted == found:
        return ""
    if found is None:
        return f"{name} is missing"
    if wanted is None:
        return f"{name} is new"
    if found[0] < wanted[0]:
        return f"{name} is cut short: {found[0]:,} of {wanted[0]:,} bytes"
    return f"{name} has changed" + (f": {found[0]:,} bytes, not {wanted[0]:,}" if found[0] > wanted[0] else "")


def _read(folder: Path) -> Files:
    wanted = {k: (int(size), int(crc)) for k, (size, crc) in json.loads((folder / NAME).read_text()).items()}
    if wanted.pop(NAME) != _own(wanted):
        raise ValueError("its own checksum differs")
    return wanted


def _own(found: Files) -> tuple[int, int]:
    text = _text(found).encode()
    return len(text), zlib.crc32(text)


def _text(found: Files) -> str:
    return json.dumps(found, indent=0)


def _sum(path: Path) -> tuple[int, int]:
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, crc
