"""`almanac export RUN [--to stablehlo|huggingface] [--out PATH]`"""

import argparse
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
        "weights as a folder that transformers loads; reads it back and compares.",
    )
    arguments.add_run(parser)
    parser.add_argument("--to", choices=FORMS, default="stablehlo", help="default: stablehlo")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: RUN/predict.stablehlo, a .json beside it tells the inputs; or RUN/huggingface",
    )
    args = parser.parse_args(argv)
    return FORMS[args.to](args, *reopen.load(args.run, args.checkpoint))


def to_huggingface(args: argparse.Namespace, e: Experiment, state: TrainState, step: int) -> int:
    """A folder of config.json, model.safetensors and, where there can be one, tokenizer.json."""
    out, tokenizer = args.out or Path(args.run) / "huggingface", e.tokenizer
    start = getattr(e.data, "bos", None)  # of a translation
    name = huggingface.write(out, e.model, state.variables["params"], tokenizer, start)
    print(f"{visible(out)}  {name}, step {step:,}; read back, equal to the bit")
    if tokenizer is not None and not can_write(tokenizer):
        print(
            f"no tokenizer.json: Hugging Face's have no {json.loads(tokenizer.to_json())['name']!r}; it takes token ids"
        )
    return 0


def to_stablehlo(args: argparse.Namespace, e: Experiment, state: TrainState, step: int) -> int:
    """One file, and what its inputs are."""
    out = args.out or Path(args.run) / "predict.stablehlo"
    blob = stablehlo.export(e.predictor, state.variables)
    part = out.with_name(out.name + ".part")
    try:
        write_bytes(part, blob)
        error = compare(e.predictor, state.variables, part)
        part.rename(out)
    except OSError as problem:
        raise UserError(f"cannot write {out}: {problem.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    inputs = {k: {"shape": list(shape), "dtype": dtype} for k, (shape, dtype) in e.predictor.inputs.items()}
    write_json(out.with_suffix(".json"), {"step": step, "inputs": inputs, "platforms": list(stablehlo.PLATFORMS)})
    print(f"{visible(out)}  {len(blob) / 1e6:.1f} MB, step {step:,}, largest difference after reading back {error:.1e}")
    return 0


def compare(predictor, variables, path: Path) -> float:
    """Largest absolute difference between the file and `apply`, on random inputs of two batch sizes."""
    again, worst = stablehlo.load(path), 0.0
    for batch in (1, 3):
        inputs = stablehlo.example(predictor, batch, 8, jax.random.key(batch))
        ours = jax.jit(predictor.fn)(variables, inputs)
        theirs = again(inputs)
        for k in ours:
            worst = max(worst, float(np.abs(np.asarray(ours[k]) - np.asarray(theirs[k])).max()))
    if not worst < 1e-4:
        raise UserError(f"the export differs from the model by {worst:.1e}; it was not written")
    return worst


FORMS = {"stablehlo": to_stablehlo, "huggingface": to_huggingface}
