"""Further forms of a bundle's program: ONNX and LiteRT. Each is made by a process of its own, in its converter's environment.

python -m research.serving.forms RUN CHECKPOINT FORM BUNDLE

reads a run and its unfinished bundle, writes the form's file into the bundle, and prints one line of JSON: how well the form
agrees with the bundle's program and what a row takes on one core, or {"refused": why}.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from research.cluster import cpu
from research.interop import litert, onnx, stablehlo
from research.run import reopen
from research.serving import parity, run_bundle
from research.util.errors import UserError

INT8 = "litert-int8"  # differs by design: reported, and refused only if a number is not finite
PINS = hasattr(os, "sched_setaffinity")  # Linux: elsewhere nothing is timed
SECONDS, FEWEST = 0.5, 5  # of timing one form: at least so long, and so many calls

Convert = Callable[[Path], dict[str, Any]]  # an unfinished bundle -> what `write` returns


def convert(python: Path, run: Path, checkpoint: str, form: str, bundle: Path) -> dict[str, Any]:
    """Has `python`, an environment's, write a form of a run into its unfinished bundle -> what `write` returns there.

    Raises UserError with the reason if the form cannot hold the program, or if the environment lacks the converter.
    """
    command = [str(python), "-P", "-m", __name__, str(run), checkpoint, form, str(bundle)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode:
        lines = done.stderr.splitlines() or [""]
        raise UserError(f"the conversion to {form} ended with status {done.returncode}: {lines[-1][:200]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if "refused" in found:
        raise UserError(found["refused"])
    return found


def write(run: Path, checkpoint: str, form: str, bundle: Path) -> dict[str, Any]:
    """Writes a form -> `parity.measure` of it, and "milliseconds" of one row: its own, and those of the bundle's program."""
    e, state, _ = reopen.load(run, checkpoint)
    blob = export(form, e.predictor, state.variables)
    (bundle / run_bundle.FORMS[form]).write_bytes(blob)
    about = json.loads((bundle / run_bundle.MANIFEST).read_bytes())
    # Not the model, which may be another one by now: jax2onnx replaces functions of JAX.
    program = run_bundle.stablehlo(lambda name: (bundle / name).read_bytes())
    fn = run_bundle.model(form, blob, about, threads=1)
    found = parity.measure(fn, lambda inputs: program(run_bundle.prepared(form, about, inputs)), e)
    if PINS:
        row = run_bundle.prepared(form, about, stablehlo.example(e.predictor.codec, 1, 8, jax.random.key(0)))
        found["milliseconds"] = {form: milliseconds(fn, row), "stablehlo": milliseconds(program, row)}
    return found


def export(form: str, predictor: Any, variables: Mapping) -> bytes:
    """A form of run_bundle.FORMS. Raises UserError if it cannot hold the program."""
    if form == "onnx":
        return onnx.export(predictor, variables)
    return litert.export(predictor, variables, int8=form == INT8)


def milliseconds(fn: run_bundle.Fn, inputs: Mapping[str, Any]) -> float:
    """The median time of a call, after one that is not counted."""
    times: list[float] = []
    jax.block_until_ready(fn(inputs))
    while len(times) < FEWEST or sum(times) < SECONDS:
        start = time.perf_counter()
        jax.block_until_ready(fn(inputs))
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main(argv: list[str]) -> None:
    run, checkpoint, form, bundle = argv
    if PINS:  # before JAX starts its threads
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cpu.tune("cpu")
    try:
        print(json.dumps(write(Path(run), checkpoint, form, Path(bundle))))
    except (UserError, run_bundle.Damaged) as error:  # its runtime may lack what the form holds
        print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main(sys.argv[1:])
