"""A run -> a bundle: see bundle.py for what is in it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from research.cluster import device
from research.core.experiment import Experiment
from research.core.state import TrainState
from research.data import codecs
from research.interop import stablehlo
from research.run import run_logs
from research.serving import card, decoder_programs, forms, parity, run_bundle, servable
from research.serving.bundle import CARD, CODEC, is_bundle
from research.serving.decoder import from_model, generates
from research.serving.monitor import reference
from research.serving.run_bundle import MANIFEST, PARAMETERS, PROGRAM, SUMS
from research.util.errors import UserError

LEAST = 1e-4  # difference of an output from the run's that is no rounding
BATCHES = 8  # of training, whose bytes are the data's fingerprint


def pack(
    out: Path, e: Experiment, state: TrainState, about: Mapping[str, Any], convert: Mapping[str, forms.Convert] = {}
) -> dict[str, Any]:
    """Writes a bundle to `out`, in place of a bundle there, and returns its manifest.

    `about` is what the manifest says of the run: at least "name", FAMILY/CONFIG; see `of_run`. `convert` has for each further
    form what writes it into the unfinished bundle, as forms.convert does. Raises UserError if a form cannot hold the program, if
    what was read back differs from the model by 1e-4 or more, int8 excepted, and if `out` is no bundle: nothing
    is written then.
    """
    if out.exists() and not out.is_symlink() and not is_bundle(out):
        raise UserError(f"{out} exists and is no bundle: give --out another folder")
    part = out.with_name(out.name + ".part")
    try:
        _remove(part)
        manifest = _write(part, e, state, about, convert)
        _remove(out)
        part.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        _remove(part)
    return manifest


def _remove(path: Path) -> None:
    """A folder with what is in it; of a link the link alone."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _write(
    out: Path, e: Experiment, state: TrainState, about: Mapping[str, Any], convert: Mapping[str, forms.Convert]
) -> dict[str, Any]:
    out.mkdir()
    exported = stablehlo.export(e.predictor, state.variables)
    parameters = {name: np.array(x, order="C") for name, x in jax.device_get(stablehlo.flat(state.variables)).items()}
    (out / PROGRAM).write_bytes(exported.serialize())
    text = e.tokenizer is not None and generates(e.model)
    for name, program in (decoder_programs.export(e.model, state.variables) if text else {}).items():
        (out / f"{name}.stablehlo").write_bytes(program.serialize())
    safetensors.numpy.save_file(parameters, out / PARAMETERS)
    (out / CODEC).write_text(json.dumps(codecs.to_json(e.predictor.codec)), encoding="utf-8")
    shutil.copyfile(run_bundle.__file__, out / Path(run_bundle.__file__).name)
    program = jax.jit(run_bundle.program_of((out / PROGRAM).read_bytes()).call)
    read_back = run_bundle.tensors((out / PARAMETERS).read_bytes())
    jitted = jax.jit(e.predictor.fn)

    def model(inputs: Mapping) -> Mapping:
        return jitted(state.variables, inputs)

    def exported_program(inputs: Mapping) -> Mapping:
        return program(read_back, inputs)

    found = parity.measure(exported_program, model, e)
    _check(found["largest_difference"])
    manifest = {
        "format": run_bundle.VERSION,
        **about,
        **_of_program(exported, e.predictor.codec),
        "parameters": sum(x.size for x in parameters.values()),
        "parity": {"stablehlo": found},
        "subgroups": parity.by_class(model, e),
        **(_of_decoder(out, read_back, e, state) if text else {}),
    }
    if (held_out := reference.of_experiment(model, e)) is not None:
        (out / reference.FILE).write_bytes(held_out.to_bytes())
        manifest["reference"] = sorted(held_out.signals)
    _write_manifest(out, manifest)  # which a conversion reads
    for form, write in convert.items():
        found = manifest["parity"][form] = write(out)
        _check(found["largest_difference"], np.inf if form == forms.INT8 else LEAST)
    _write_manifest(out, manifest)
    (out / CARD).write_text(card.text(manifest), encoding="utf-8")
    files = sorted(path for path in out.iterdir())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / SUMS).write_text("".join(sums), encoding="ascii")
    return manifest


def _write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def of_run(e: Experiment, state: TrainState, folder: Path, license: str | None) -> dict[str, Any]:
    """What a manifest says of a run, `folder`. `license`: of the weights, an SPDX identifier, if it is known."""
    run, step = run_logs.read(folder), int(state.step)
    logged = {name: [pair for pair in pairs if pair[0] <= step] for name, pairs in run.series.items()}
    return {
        "name": run.name,
        "step": step,
        "seed": e.cfg.seed,
        "license": license,
        "config": run.config,
        "commit": run.commit,
        "versions": {"trained": run.versions, "exported": device.versions()},
        "metrics": {name: pairs[-1][1] for name, pairs in logged.items() if pairs and not name.startswith("train/")},
        "data": {"report": list(e.data.report), "first_batches_sha256": fingerprint(e)},
    }


def _of_decoder(out: Path, parameters: Mapping, e: Experiment, state: TrainState) -> dict[str, Any]:
    """What a manifest says of a decoder. Raises UserError if the logits of its programs differ from the model's."""
    facts = decoder_programs.facts(e.model, state.variables)
    programs = {
        name: run_bundle.program_of((out / f"{name}.stablehlo").read_bytes()) for name in decoder_programs.NAMES
    }
    split, batches = parity.held_out(e)
    tokens = next(batches)["tokens"][0] if split else np.zeros(1, np.int32)
    ours, read_back = from_model(e.model, state.variables), decoder_programs.load(programs, parameters, facts)
    found = decoder_programs.difference(ours, read_back, tokens)
    _check(found)
    return {"decoder": {**facts, "largest_difference": found}, "template": servable.chat_template(e)}


def _check(difference: float, least: float = LEAST) -> None:
    if not difference < least:
        raise UserError(f"the export differs from the model by {difference:.1e}; it was not written")


def _of_program(exported: Any, codec: Any) -> dict[str, Any]:
    def sizes(shape: tuple) -> list:
        return [d if isinstance(d, int) else str(d) for d in shape]

    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        "inputs": {name: {"shape": sizes(shape), "dtype": dtype} for name, (shape, dtype) in codec.inputs.items()},
        "constraints": list(codec.constraints),
        "outputs": {name: {"shape": sizes(x.shape), "dtype": x.dtype.name} for name, x in outputs.items()},
        "platforms": list(exported.platforms),
    }


def fingerprint(e: Experiment) -> str:
    """The SHA-256 of the names and bytes of the first `BATCHES` training batches: of the data, its order and its encoding."""
    digest = hashlib.sha256()
    for step in range(BATCHES):
        for name, array in sorted(e.train.batch(step).items()):
            array = np.ascontiguousarray(array)
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
