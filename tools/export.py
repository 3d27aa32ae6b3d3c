"""`almanac export RUN [--out FILE]`"""

import argparse
from pathlib import Path

import jax
import numpy as np

from research.host.errors import UserError
from research.host.records import write_json
from research.interop import stablehlo
from tools import runs


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac export",
        description="Writes a run's prediction function with its weights as one StableHLO file for cpu, cuda and tpu, "
        "reads it back and compares.",
    )
    runs.add_run(parser)
    parser.add_argument("--out", type=Path, help="default: RUN/predict.stablehlo; a .json beside it tells the inputs")
    args = parser.parse_args(argv)
    e, state, step = runs.load(args.run, args.checkpoint)
    out = args.out or Path(args.run) / "predict.stablehlo"
    blob = stablehlo.export(e.predictor, state.variables)
    part = out.with_name(out.name + ".part")
    try:
        part.write_bytes(blob)
        error = compare(e.predictor, state.variables, part)
        part.rename(out)
    except OSError as problem:
        raise UserError(f"cannot write {out}: {problem.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    inputs = {k: {"shape": list(shape), "dtype": dtype} for k, (shape, dtype) in e.predictor.inputs.items()}
    write_json(out.with_suffix(".json"), {"step": step, "inputs": inputs, "platforms": list(stablehlo.PLATFORMS)})
    print(f"{out}  {len(blob) / 1e6:.1f} MB, step {step:,}, largest difference after reading back {error:.1e}")
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
