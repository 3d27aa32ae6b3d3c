"""HDF5 files of the oldest and commonest form, read without its library: groups by symbol tables, chunks packed by deflate.

The format's specification is "HDF5 File Format Specification Version 1.1", superblock 0. What else a file may have (other
filters, types, layouts, versions) is refused and named.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from research.util.errors import UserError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DATASPACE, DATATYPE, LAYOUT, FILTERS, CONTINUED, TABLE = 0x01, 0x03, 0x08, 0x0B, 0x10, 0x11  # messages of a header
DEFLATE, CHUNKED = 1, 2
LARGEST = 1 << 31  # bytes of one array


def read(path: Path) -> dict[str, np.ndarray]:
    """{"group/name": array} of all data sets of a file. Raises UserError if it is damaged, or of a form that is not read."""
    try:
        file = _File(path.read_bytes())
        return dict(file.group(file.root, ""))
    except _Unknown as e:
        raise UserError(f"{path}: {e}; such HDF5 files are not read") from None
    except (struct.error, IndexError, KeyError, ValueError, zlib.error, RecursionError) as e:
        raise UserError(f"{path} is damaged or no HDF5 file: {e}") from None


class _Unknown(Exception):
    """A feature of the format that this reader lacks."""


class _File:
    def __init__(self, data: bytes):
        self._data = data
        if not data.startswith(SIGNATURE):
            raise ValueError("it does not begin with HDF5's signature")
        if data[8] != 0 or data[13:15] != b"\x08\x08":
            raise _Unknown(f"superblock {data[8]}")
        self.root = self._get(64, "Q")[0]

    def _get(self, at: int, form: str) -> tuple[Any, ...]:
        return struct.unpack_from("<" + form, self._data, at)

    def group(self, header: int, path: str) -> Iterator[tuple[str, np.ndarray]]:
        messages = self._messages(header)
        if TABLE not in messages:
            yield path, self._array(messages, path)
            return
        tree, heap = self._get(messages[TABLE], "QQ")
        names = self._get(heap + 24, "Q")[0]
        for node, _ in self._leaves(tree, key=8):
            for i in range(self._get(node + 6, "H")[0]):
                name, child = self._get(node + 8 + 40 * i, "QQ")
                text = self._data[names + name : self._data.index(b"\0", names + name)].decode()
                yield from self.group(child, f"{path}/{text}" if path else text)

    def _messages(self, header: int) -> dict[int, int]:
        """{kind: where its content is} of an object's header, version 1."""
        version, _, count, _, size = self._get(header, "BBHII")
        if version != 1:
            raise _Unknown(f"object header {version}")
        blocks, found = [(header + 16, size)], {}
        while blocks and count:
            at, size = blocks.pop(0)
            end = at + size
            while at < end and count:
                kind, length = self._get(at, "HH")
                found[kind], count = at + 8, count - 1
                if kind == CONTINUED:
                    blocks.append(self._get(at + 8, "QQ"))
                at += 8 + length
        return found

    def _leaves(self, node: int, key: int) -> Iterator[tuple[int, int]]:
        """(where a child is, where its key is) of the leaves of a B-tree with keys of so many bytes."""
        if self._data[node : node + 4] != b"TREE":
            raise ValueError("a B-tree is missing")
        _, level, count = self._get(node + 4, "BBH")
        for i in range(count):
            at = node + 24 + i * (key + 8)
            child = self._get(at + key, "Q")[0]
            if level:
                yield from self._leaves(child, key)
            else:
                yield child, at

    def _array(self, messages: dict[int, int], path: str) -> np.ndarray:
        dtype, rank = self._dtype(messages[DATATYPE]), self._get(messages[DATASPACE] + 1, "B")[0]
        shape = self._get(messages[DATASPACE] + 8, f"{rank}Q")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > LARGEST:
            raise ValueError(f"{path} would be of {shape}")
        self._check_filters(messages.get(FILTERS))
        version, layout, dimensions = self._get(messages[LAYOUT], "BBB")
        if version != 3 or layout != CHUNKED or dimensions != rank + 1:
            raise _Unknown(f"{path} of layout {layout}, version {version}")
        out, tree = np.zeros(shape, dtype), self._get(messages[LAYOUT] + 3, "Q")[0]
        chunk = self._get(messages[LAYOUT] + 11, f"{rank}I")
        for at, key in self._leaves(tree, key=8 + 8 * (rank + 1)):
            size, skipped = self._get(key, "II")
            packed = self._data[at : at + size]
            values = np.frombuffer(packed if FILTERS not in messages or skipped else zlib.decompress(packed), dtype)
            start = self._get(key + 8, f"{rank}Q")
            box = tuple(slice(a, a + n) for a, n in zip(start, chunk, strict=True))
            target = out[box]
            target[...] = values.reshape(chunk)[tuple(slice(n) for n in target.shape)]
        return out

    def _dtype(self, at: int) -> np.dtype:
        """Little-endian floats of IEEE 754 and integers."""
        kind, bits, size = self._get(at, "BBxxI")
        if kind & 15 > 1 or bits & 1 or size not in (1, 2, 4, 8):
            raise _Unknown(f"values of class {kind & 15}, {size} bytes")
        letter = "f" if kind & 15 == 1 else "iu"[not bits & 8]
        return np.dtype(f"<{letter}{size}")

    def _check_filters(self, at: int | None) -> None:
        if at is not None and (self._get(at + 1, "B")[0] != 1 or self._get(at + 8, "H")[0] != DEFLATE):
            raise _Unknown("filters other than deflate")
