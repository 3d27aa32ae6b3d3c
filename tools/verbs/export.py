"""`almanac export RUN [--to stablehlo|huggingface] [--out PATH]`"""

import argparse
import hashlib
import json
from pathlib import Path

import jax
import numpy as np

from research.core.experiment import Experiment
from research.core.state import TrainState
from research.interop import huggingface, stablehlo
from research.interop.hf.tokenizer import can_write
from research.run import reopen
from research.util.errors import UserError
from research.util.escape import visible
from research.util.files import write_bytes, write_json
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac export",
        description="Writes a run's prediction function with its weights as one StableHLO file for cpu, cuda and tpu, or its "
        "weights as a folder for transformers; then loads the result and compares it with the model.",
    )
    arguments.add_run(parser)
    parser.add_argument("--to", choices=FORMS, default="stablehlo", help="default: stablehlo")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: RUN/predict.stablehlo (the .json beside it has the inputs), or RUN/huggingface",
    )
    args = parser.parse_args(argv)
    return FORMS[args.to](args, *reopen.load(args.run, args.checkpoint))


def to_huggingface(args: argparse.Namespace, e: Experiment, state: TrainState, step: int) -> int:
    """Writes a folder of config.json, model.safetensors and, if the tokenizer can be written, tokenizer.json.

    Raises UserError if the architecture is not supported or the weights differ when read back.
    """
    out, tokenizer = args.out or Path(args.run) / "huggingface", e.tokenizer
    name = huggingface.write(out, e.model, state.variables["params"], tokenizer, e.data.bos)
    print(f"{visible(out)}  {name}, step {step:,}; read back, bitwise equal")
    if tokenizer is not None and not can_write(tokenizer):
        print(
            f"no tokenizer.json: Hugging Face has no {json.loads(tokenizer.to_json())['name']!r}; inputs are token ids"
        )
    return 0


def to_stablehlo(args: argparse.Namespace, e: Experiment, state: TrainState, step: int) -> int:
    """Writes the StableHLO file, and its inputs as .json. Raises UserError if the outputs differ when read back."""
    out = args.out or Path(args.run) / "predict.stablehlo"
    blob = stablehlo.export(e.predictor, state.variables)
    part = out.with_name(out.name + ".part")
    try:
        write_bytes(part, blob)
        error = compare(e.predictor, state.variables, part)
        part.rename(out)
    except OSError as e:
        raise UserError(f"cannot write {out}: {e.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    inputs = {k: {"shape": list(shape), "dtype": dtype} for k, (shape, dtype) in e.predictor.inputs.items()}
    about = {"step": step, "inputs": inputs, "platforms": list(stablehlo.PLATFORMS)}
    write_json(out.with_suffix(".json"), about | {"sha256": hashlib.sha256(blob).hexdigest()})
    print(f"{visible(out)}  {len(blob) / 1e6:.1f} MB, step {step:,}, largest difference after reading back {error:.1e}")
    return 0


def compare(predictor, variables, path: Path) -> float:
    """The largest absolute difference between the outputs of the file and of the model, on random inputs of two batch sizes.

    Raises UserError unless it is below 1e-4.
    """
    exported, largest = stablehlo.load(path), 0.0
    for batch in (1, 3):
        inputs = stablehlo.example(predictor, batch, 8, jax.random.key(batch))
        expected = jax.jit(predictor.fn)(variables, inputs)
        outputs = exported(inputs)
        for k in expected:
            largest = max(largest, float(np.abs(np.asarray(expected[k]) - np.asarray(outputs[k])).max()))
    if not largest < 1e-4:
        raise UserError(f"the export differs from the model by {largest:.1e}; it was not written")
    return largest


FORMS = {"stablehlo": to_stablehlo, "huggingface": to_huggingface}
