"""Runs a bundle with nothing but JAX: arrays in, arrays out. A copy of this file lies in every bundle.

python run_bundle.py inputs.npz outputs.npz      the arrays of inputs.npz by name, as manifest.json lists them

import run_bundle
fn = run_bundle.load("bundle")
outputs = fn({"image": images})

A bundle is data: loading it runs no code of whoever made it. `load` refuses one of which a byte has changed.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import ml_dtypes  # comes with JAX; NumPy alone has no bfloat16
import numpy as np

SUMS, MANIFEST, PROGRAM, PARAMETERS = "SHA256SUMS", "manifest.json", "predict.stablehlo", "parameters.safetensors"
VERSION = 1  # of the format
SEALED = b"ALMANAC SEALED 1"  # the beginning of a file that is kept encrypted
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_LINE = re.compile(r"([0-9a-f]{64})  (\w[\w.-]*)\n")


class Damaged(ValueError):
    """A folder is no bundle, or not as it was written."""


def load(folder: str | Path) -> Callable[[Mapping[str, Any]], dict[str, jax.Array]]:
    """A bundle -> its function, {name: array} -> {name: array}. Raises Damaged."""
    read = check(folder)
    program, parameters = jax.jit(program_of(read(PROGRAM)).call), tensors(read(PARAMETERS))
    return lambda inputs: program(parameters, dict(inputs))


def check(folder: str | Path, opened: Callable[[bytes, str], bytes] | None = None) -> Callable[[str], bytes]:
    """Compares every file of a bundle with its SHA-256, and returns what reads one of them. Raises Damaged.

    `opened` makes of a sealed file's bytes and name what they were, as Almanac does; without it such a file is refused.
    """
    folder, files = Path(folder), {}
    for name, digest in listed(folder).items():
        if (folder / name).is_symlink():
            raise Damaged(f"{folder / name} is a link; a bundle holds its files itself")
        try:
            blob = (folder / name).read_bytes()
        except OSError:
            raise Damaged(f"{folder / name} is missing or cannot be read; export the run again") from None
        if blob.startswith(SEALED) and opened is None:
            raise Damaged(f"{folder / name} is sealed: open the bundle by Almanac, with its key")
        files[name] = opened(blob, name) if opened else blob
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise Damaged(f"{folder / name} is damaged: its SHA-256 is not the one in {SUMS}; export the run again")

    def read(name: str) -> bytes:
        if name not in files:
            raise Damaged(f"{folder} is no whole bundle: it has no {name}")
        return files[name]

    version = manifest(read).get("format")
    if version != VERSION:
        raise Damaged(f"{folder} has format {version!r}, this file reads {VERSION}: use the run_bundle.py beside it")
    return read


def listed(folder: Path) -> dict[str, str]:
    """{file's name: its SHA-256}, of the bytes as they were before a file was sealed. Raises Damaged."""
    try:
        listed = (folder / SUMS).read_bytes().decode("ascii")
    except (OSError, ValueError):
        raise Damaged(f"{folder} is no bundle: it has no {SUMS} that can be read") from None
    sums = {name: digest for digest, name in _LINE.findall(listed)}
    if "".join(f"{digest}  {name}\n" for name, digest in sums.items()) != listed:
        raise Damaged(f"{folder / SUMS} is damaged; export the run again")
    return sums


def manifest(read: Callable[[str], bytes]) -> dict[str, Any]:
    try:
        value = json.loads(read(MANIFEST))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Damaged(f"{MANIFEST} holds no JSON object")
    return value


def program_of(blob: bytes) -> jax.export.Exported:
    """Serialised StableHLO -> a program; `call` of it takes (parameters, inputs). Raises Damaged."""
    try:
        return jax.export.deserialize(bytearray(blob))
    except Exception as error:
        raise Damaged(f"this is no program that this JAX reads: {str(error).splitlines()[0]}") from None


def tensors(blob: bytes) -> dict[str, jax.Array]:
    """The arrays of a safetensors file: 8 bytes, the size of a JSON header; the header; the arrays' bytes."""
    try:
        size = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + size])
        out = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            start, end = about["data_offsets"]
            array = np.frombuffer(blob[8 + size + start : 8 + size + end], DTYPES[about["dtype"]])
            out[name] = jax.numpy.asarray(array.reshape(about["shape"]))
        return out
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Damaged(f"this is no safetensors file: {error}") from None


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fn = load(Path(__file__).resolve().parent)
        with np.load(argv[0], allow_pickle=False) as file:
            inputs = {name: file[name] for name in file.files}
        np.savez(argv[1], **jax.device_get(fn(inputs)))
    except (OSError, ValueError) as error:
        print(f"run_bundle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
