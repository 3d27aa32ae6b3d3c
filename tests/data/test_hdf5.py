"""The HDF5 reader, on a file written here byte by byte after the specification."""

import struct
import zlib

import numpy as np
import pytest

from research.data import hdf5
from research.util.errors import UserError

DTYPES = {"<f4": (0x11, 0), "<i4": (0x10, 8), "<u1": (0x10, 0)}  # class and version, sign bit


def aligned(data):
    return data + bytes(-len(data) % 8)


def message(kind, content):
    content = aligned(content)
    return struct.pack("<HHBxxx", kind, len(content), 0) + content


def header(*messages):
    body = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body


def write(path, group, arrays, chunks, dtype_class=None, filters=(1,)):
    """/group/name of each array in chunks: superblock, then every structure one after another, children first."""
    out = bytearray(96)

    def put(data):
        out.extend(bytes(-len(out) % 8))
        at = len(out)
        out.extend(data)
        return at

    def dataset(array, chunk):
        entries, rank = [], array.ndim
        for start in np.ndindex(*(-(-n // c) for n, c in zip(array.shape, chunk, strict=True))):
            corner = [i * c for i, c in zip(start, chunk, strict=True)]
            block = np.zeros(chunk, array.dtype)  # a chunk at the edge is whole
            part = array[tuple(slice(a, a + c) for a, c in zip(corner, chunk, strict=True))]
            block[tuple(map(slice, part.shape))] = part
            packed = zlib.compress(block.tobytes()) if filters else block.tobytes()
            entries.append(struct.pack(f"<II{rank + 1}Q", len(packed), 0, *corner, 0) + struct.pack("<Q", put(packed)))
        tree = put(b"TREE" + struct.pack("<BBHqq", 1, 0, len(entries), -1, -1) + b"".join(entries))
        kind, sign = DTYPES[array.dtype.str.replace("|", "<")]
        size = array.dtype.itemsize
        space = struct.pack(f"<BBBx4x{rank}Q", 1, rank, 0, *array.shape)
        kind = message(3, struct.pack("<BBBBI", dtype_class or kind, sign, 0, 0, size) + bytes(8))
        layout = message(8, struct.pack(f"<BBBQ{rank + 1}I", 3, 2, rank + 1, tree, *chunk, size))
        packing = [message(11, struct.pack("<BB6xHHHHI4x", 1, 1, filters[0], 0, 1, 1, 4))] if filters else []
        return put(header(message(1, space), kind, layout, *packing))

    def folder(children):
        heap, offsets = bytearray(8), []
        for name in children:
            offsets.append(len(heap))
            heap.extend(aligned(name.encode() + b"\0"))
        names = put(bytes(heap))
        heap_at = put(b"HEAP" + struct.pack("<4xQQQ", len(heap), 0, names))
        rows = zip(offsets, children.values(), strict=True)
        node = put(
            b"SNOD" + struct.pack("<BxH", 1, len(children)) + b"".join(struct.pack("<QQ24x", *row) for row in rows)
        )
        tree = put(b"TREE" + struct.pack("<BBHqqQQQ", 0, 0, 1, -1, -1, 0, node, 0))
        return put(header(message(0x11, struct.pack("<QQ", tree, heap_at))))

    sets = {name: dataset(array, chunk) for (name, array), chunk in zip(arrays.items(), chunks, strict=True)}
    root = folder({group: folder(sets)})
    out[:96] = hdf5.SIGNATURE + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(48) + struct.pack("<Q24x", root)
    path.write_bytes(out)
    return path


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"data": rng.random((7, 5)).astype("<f4"), "target": rng.integers(-9, 9, 7).astype("<i4")}


@pytest.mark.parametrize("filters", [(1,), ()])
def test_chunks_are_put_together(tmp_path, arrays, filters):
    read = hdf5.read(write(tmp_path / "a.h5", "train", arrays, [(3, 2), (4,)], filters=filters))
    assert read.keys() == {"train/data", "train/target"}
    for name, array in arrays.items():
        assert read[f"train/{name}"].dtype == array.dtype and np.array_equal(read[f"train/{name}"], array)


def test_what_is_not_read_is_named(tmp_path, arrays):
    with pytest.raises(UserError, match="filters other than deflate; such HDF5 files are not read"):
        hdf5.read(write(tmp_path / "a.h5", "g", arrays, [(3, 2), (4,)], filters=(4,)))
    with pytest.raises(UserError, match="values of class 3, 4 bytes"):
        hdf5.read(write(tmp_path / "b.h5", "g", arrays, [(3, 2), (4,)], dtype_class=0x13))


def test_damage_is_named(tmp_path, arrays):
    whole = write(tmp_path / "a.h5", "g", arrays, [(3, 2), (4,)]).read_bytes()
    for i, data in enumerate((b"", b"none of it", whole[:200], whole[:400], whole[:96] + bytes(len(whole) - 96))):
        (tmp_path / f"{i}.h5").write_bytes(data)
        with pytest.raises(UserError, match="is damaged or no HDF5 file|are not read"):
            hdf5.read(tmp_path / f"{i}.h5")
