"""Runs a bundle with nothing but NumPy and one runtime: arrays in, arrays out. A copy of this file lies in every bundle.

python run_bundle.py inputs.npz outputs.npz [FORM]    the arrays of inputs.npz by name, as manifest.json lists them

import run_bundle
fn = run_bundle.load("bundle")  # or load("bundle", FORM)
outputs = fn({"image": images})

FORM           file                  needs
stablehlo      predict.stablehlo     jax
onnx           model.onnx            onnxruntime
litert         model.tflite          ai-edge-litert
litert-int8    model_int8.tflite     ai-edge-litert

All but the first were asked for when the bundle was written. LiteRT takes one row at a time, and texts of the longest length
alone: shorter ones are filled up with zeros here, and the outputs are as long.

A bundle is data: loading it runs no code of whoever made it. `load` refuses one of which a byte has changed.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SUMS, MANIFEST, PROGRAM, PARAMETERS = "SHA256SUMS", "manifest.json", "predict.stablehlo", "parameters.safetensors"
VERSION = 1  # of the format
SEALED = b"ALMANAC SEALED 1"  # the beginning of a file that is kept encrypted
FORMS = {"onnx": "model.onnx", "litert": "model.tflite", "litert-int8": "model_int8.tflite"}
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_LINE = re.compile(r"([0-9a-f]{64})  (\w[\w.-]*)\n")
_BOUND = re.compile(r"(\w+) <= (\d+)")

Fn = Callable[[Mapping[str, Any]], dict[str, Any]]  # {name: array} -> {name: array}


class Damaged(ValueError):
    """A folder is no bundle, or not as it was written."""


def load(folder: str | Path, form: str = "stablehlo") -> Fn:
    """A bundle -> its function. Raises Damaged, and ImportError if the form's runtime is not installed."""
    read = check(folder)
    if form == "stablehlo":
        return stablehlo(read)
    if form not in FORMS:
        raise ValueError(f"{form!r} is no form: stablehlo, {', '.join(FORMS)}")
    return model(form, read(FORMS[form]), manifest(read))


def stablehlo(read: Callable[[str], bytes]) -> Fn:
    """What reads a bundle's files -> its program with its parameters, by JAX."""
    import jax

    program, parameters = jax.jit(program_of(read(PROGRAM)).call), tensors(read(PARAMETERS))
    return lambda inputs: program(parameters, dict(inputs))


def model(form: str, blob: bytes, about: Mapping[str, Any], threads: int | None = None) -> Fn:
    """The bytes of an ONNX or LiteRT model and a bundle's manifest -> its function, on a CPU. `threads`: None, its own."""
    run = (_onnx if form == "onnx" else _litert)(blob, sorted(about["outputs"]), threads)
    return lambda inputs: run(prepared(form, about, inputs))


def prepared(form: str, about: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs by name, of a manifest's types; for LiteRT with zeros up to the longest length.

    Raises ValueError if one is missing or of another shape.
    """
    most, out = {bound[1]: int(bound[2]) for bound in map(_BOUND.fullmatch, about["constraints"]) if bound}, {}
    for name, each in about["inputs"].items():
        if name not in inputs:
            raise ValueError(f"the input {name} is missing")
        shape, x = each["shape"], np.asarray(inputs[name], each["dtype"])
        if not _fits(x.shape, shape, most):
            raise ValueError(
                " ".join([f"{name} is of shape {x.shape}, the model takes {shape}", *about["constraints"]])
            )
        out[name] = (
            x if form == "onnx" else np.pad(x, [(0, most.get(d, n) - n) for d, n in zip(shape, x.shape, strict=True)])
        )
    return out


def _fits(sizes: tuple[int, ...], shape: list, most: Mapping[str, int]) -> bool:
    pairs = zip(sizes, shape, strict=True)
    return len(sizes) == len(shape) and all(n == d if isinstance(d, int) else n <= most.get(d, n) for n, d in pairs)


def _onnx(blob: bytes, names: list[str], threads: int | None) -> Fn:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Damaged(f"onnxruntime does not load it: {' '.join(str(error).split())[:200]}") from None
    taken = [given.name for given in session.get_inputs()]  # what the model does not use is no input

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {name: inputs[name] for name in taken}), strict=True))

    return run


def _litert(blob: bytes, names: list[str], threads: int | None) -> Fn:
    from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(model_content=blob, num_threads=threads).get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise Damaged(f"LiteRT does not load it: {' '.join(str(error).split())[:200]}") from None
    taken = list(runner.get_input_details())

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(inputs.values())))
        rows = [runner(**{name: inputs[name][i : i + 1] for name in taken}) for i in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in names}

    return run


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


def program_of(blob: bytes) -> Any:
    """Serialised StableHLO -> a jax.export.Exported; `call` of it takes (parameters, inputs). Raises Damaged."""
    import jax.export

    try:
        return jax.export.deserialize(bytearray(blob))
    except Exception as error:
        raise Damaged(f"this is no program that this JAX reads: {str(error).splitlines()[0]}") from None


def tensors(blob: bytes) -> dict[str, Any]:
    """The arrays of a safetensors file, on JAX's device: 8 bytes, the size of a JSON header; the header; the arrays' bytes."""
    import jax.numpy as jnp

    try:
        size = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + size])
        out = {}
        for name, about in header.items():
            if name == "__metadata__":
                continue
            start, end = about["data_offsets"]
            array = np.frombuffer(blob[8 + size + start : 8 + size + end], jnp.dtype(DTYPES[about["dtype"]]))
            out[name] = jnp.asarray(array.reshape(about["shape"]))
        return out
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Damaged(f"this is no safetensors file: {error}") from None


def main(argv: list[str]) -> int:
    if len(argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fn = load(Path(__file__).resolve().parent, *argv[2:])
        with np.load(argv[0], allow_pickle=False) as file:
            inputs = {name: file[name] for name in file.files}
        outputs: dict[str, Any] = {name: np.asarray(x) for name, x in fn(inputs).items()}
        np.savez(argv[1], **outputs)
    except (ImportError, OSError, ValueError) as error:
        print(f"run_bundle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
