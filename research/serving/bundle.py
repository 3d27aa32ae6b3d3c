"""A bundle opened: all that prediction needs of a run, in one folder that wants neither the run, nor its data, nor its model.

manifest.json            what it is: inputs and outputs, versions, metrics, its data, how well it agrees with the run
predict.stablehlo        the program, for cpu, cuda and tpu; parameters are arguments
prefill.stablehlo, decode.stablehlo   of a language model, its decoder's: see decoder_programs.py
model.onnx, model.tflite, model_int8.tflite   those asked for: the program with its parameters, for onnxruntime and LiteRT
parameters.safetensors   the parameters, by path
codec.json               the way between raw values and arrays: vocabulary, classes, sizes
reference.npz            signals of held-out data, for the monitor: see monitor/reference.py; not in every bundle
README.md                a model card
run_bundle.py            runs any of these programs with nothing but NumPy and its runtime, arrays in and arrays out
SHA256SUMS               of all these, as sha256sum writes them

All but the last may be sealed, by `seal`.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from research.core.experiment import Codec, Predictor
from research.data import codecs
from research.run import reopen
from research.serving import decoder_programs, run_bundle
from research.serving.decoder import Decoder
from research.serving.monitor import reference
from research.serving.monitor.reference import Reference
from research.serving.run_bundle import MANIFEST, PARAMETERS, PROGRAM, SUMS
from research.util import sealed
from research.util.errors import UserError
from research.util.files import write_bytes, write_errors
from research.util.sealed import Keys

CODEC, CARD = "codec.json", "README.md"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What a bundle holds: of a language model also its decoder, for the server."""

    folder: Path
    manifest: Mapping[str, Any]
    predictor: Predictor
    parameters: Mapping[str, jax.Array]
    decoder: Decoder | None
    reference: Reference | None = None

    @property
    def codec(self) -> Codec:
        return self.predictor.codec

    def fn(self, inputs: Mapping[str, Any]) -> Mapping[str, jax.Array]:
        """{name: array} -> {name: array}."""
        return self.predictor.fn(self.parameters, dict(inputs))

    def predict(self, value: Any) -> Mapping[str, Any]:
        """What the model makes of one value, as `OpenRun.predict`. Raises UserError if the value is none that it takes."""
        inputs = self.codec.encode(value)
        check_shapes(self.codec, inputs)
        return self.codec.decode(jax.device_get(self.fn(inputs)))


def is_bundle(folder: str | Path) -> bool:
    return (Path(folder) / SUMS).is_file()


def open_bundle(folder: str | Path, checkpoint: str = "best") -> Bundle:
    """Opens a bundle. Raises UserError if it is none, is of another version, or a byte of it has changed.

    It holds one checkpoint: `checkpoint` is there to be refused if it is any but "best", where a run may have been meant.
    """
    folder = Path(folder)
    if checkpoint != "best":
        raise UserError(f"--checkpoint={checkpoint}: {folder} is a bundle, which holds one; leave it out")
    try:
        read = run_bundle.check(folder, sealed.opened)
        about = run_bundle.manifest(read)
        program, parameters = run_bundle.program_of(read(PROGRAM)), run_bundle.tensors(read(PARAMETERS))
        stored, name, decoder = json.loads(read(CODEC)), about["name"], None
        if facts := about.get("decoder"):
            programs = {each: run_bundle.program_of(read(f"{each}.stablehlo")) for each in decoder_programs.NAMES}
            decoder = decoder_programs.load(programs, parameters, facts)
    except run_bundle.Damaged as error:
        raise UserError(str(error)) from None
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{folder}: its {MANIFEST} or {CODEC} cannot be read; export the run again") from None
    reopen.family(name)  # which registers its codec; raises UserError if there is no such family
    predictor = Predictor(jax.jit(program.call), codecs.from_json(stored))
    stored_reference = reference.from_bytes(read(reference.FILE)) if about.get("reference") else None
    return Bundle(folder, about, predictor, parameters, decoder, stored_reference)


def seal(folder: Path, keys: Keys) -> int:
    """Seals every file that is not sealed with the first key -> their number. The sums stay those of the files as they were.

    A file is replaced whole, and a mixture is a bundle too: what is interrupted is done by the next call. Raises UserError if the
    bundle is damaged, or a file is sealed with a key that this process lacks.
    """
    try:
        read, names = run_bundle.check(folder, sealed.opened), run_bundle.listed(folder)
    except run_bundle.Damaged as error:
        raise UserError(str(error)) from None
    older = [name for name in names if not keys.is_newest((folder / name).read_bytes())]
    with write_errors(folder):
        for name in older:
            write_bytes(folder / name, keys.seal(read(name), name))
    return len(older)


def check_shapes(codec: Codec, inputs: Mapping[str, Any]) -> None:
    """Raises UserError if an exported program does not take arrays of these shapes: a picture of another size, for one."""
    for name, (shape, _) in codec.inputs.items():
        given = inputs[name].shape
        if len(given) != len(shape) or any(isinstance(d, int) and d != n for d, n in zip(shape, given, strict=True)):
            sizes = [" x ".join(map(str, each)) for each in (given, shape)]
            raise UserError(f"{name} is {sizes[0]}; the exported program takes {sizes[1]}")
