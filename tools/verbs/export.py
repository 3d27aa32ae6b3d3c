"""`almanac export RUN [--to bundle|huggingface|FORM,...] [--out PATH]`"""

import argparse
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

from research.core.experiment import Experiment
from research.core.state import TrainState
from research.interop import huggingface
from research.interop.hf.tokenizer import can_write
from research.run import reopen
from research.serving import packing, parity
from research.serving.forms import convert
from research.serving.run_bundle import FORMS
from research.util.errors import UserError, nearest
from research.util.escape import visible
from tools.root import ROOT
from tools.verbs import arguments

HUGGINGFACE = "huggingface"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac export",
        description="Writes a run as a bundle, a folder with the prediction program for cpu, cuda and tpu, the weights, the way "
        "from raw values to arrays and back, and a model card; or its weights as a folder for transformers. The result is read "
        "back and compared with the model.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "--to",
        default="bundle",
        metavar="FORM[,FORM]",
        help=f"bundle, the default; a bundle with the program also as {', '.join(FORMS)}; or huggingface",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: RUN/bundle, or RUN/huggingface")
    parser.add_argument("--license", metavar="SPDX", help="of the weights, as the bundle says it: Apache-2.0, for one")
    args = parser.parse_args(argv)
    forms = forms_of(args.to)
    if args.license and args.to == HUGGINGFACE:
        raise UserError(f"--license: only a bundle says it; leave it out with --to {args.to}")
    e, state, step = reopen.load(args.run, args.checkpoint)
    return to_huggingface(args, e, state, step) if args.to == HUGGINGFACE else to_bundle(args, forms, e, state)


def forms_of(to: str) -> list[str]:
    """The forms that --to asks for besides the bundle's own program. Raises UserError for a name that is none.

    >>> forms_of("bundle"), forms_of("litert,onnx")
    ([], ['onnx', 'litert'])
    """
    names = [] if to == HUGGINGFACE else to.split(",")
    for name in names:
        if name == HUGGINGFACE:
            raise UserError(f"--to {to}: {HUGGINGFACE} stands alone")
        if name not in ("bundle", *FORMS):
            raise UserError(f"--to {to}: {name!r} is no form{nearest(name, ['bundle', HUGGINGFACE, *FORMS])}")
    return [form for form in FORMS if form in names]


def python_of(form: str) -> Path:
    """The Python that has a form's converter: this one, or that of the environment which ./almanac made for it."""
    package, folder = ("jax2onnx", ".venv-onnx") if form == "onnx" else ("tensorflow", ".venv-litert")
    made = ROOT / folder / "bin" / "python"
    return Path(sys.executable) if importlib.util.find_spec(package) or not made.exists() else made


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


def to_bundle(args: argparse.Namespace, forms: list[str], e: Experiment, state: TrainState) -> int:
    """Writes a bundle: see research/serving/bundle.py."""
    out, run = args.out or Path(args.run) / "bundle", Path(args.run)
    about = packing.of_run(e, state, run, args.license)
    converters = {form: partial(convert, python_of(form), run, args.checkpoint, form) for form in forms}
    manifest = packing.pack(out, e, state, about, converters)
    for file in sorted(out.iterdir()):
        print(f"{visible(file)}  {file.stat().st_size / 1e6:.3f} MB")
    for form, found in manifest["parity"].items():
        print(parity.line(form, found))
    return 0
