"""`almanac export RUN [--to bundle|onnx|huggingface] [--out PATH]`"""

import argparse
import json
from pathlib import Path

from research.core.experiment import Experiment
from research.core.state import TrainState
from research.interop import huggingface
from research.interop.hf.tokenizer import can_write
from research.run import reopen
from research.serving import packing
from research.util.errors import UserError
from research.util.escape import visible
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac export",
        description="Writes a run as a bundle, a folder with the prediction program for cpu, cuda and tpu, the weights, the way "
        "from raw values to arrays and back, and a model card; or its weights as a folder for transformers. The result is read "
        "back and compared with the model.",
    )
    arguments.add_run(parser)
    parser.add_argument(
        "--to", choices=FORMS, default="bundle", help="default: bundle; onnx: a bundle with the program as ONNX, too"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: RUN/bundle, or RUN/huggingface")
    parser.add_argument("--license", metavar="SPDX", help="of the weights, as the bundle says it: Apache-2.0, for one")
    args = parser.parse_args(argv)
    if args.license and args.to == "huggingface":
        raise UserError(f"--license: only a bundle says it; leave it out with --to {args.to}")
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


def to_bundle(args: argparse.Namespace, e: Experiment, state: TrainState, step: int) -> int:
    """Writes a bundle: see research/serving/bundle.py."""
    out = args.out or Path(args.run) / "bundle"
    about = packing.of_run(e, state, Path(args.run), args.license)
    manifest = packing.pack(out, e, state, about, with_onnx=args.to == "onnx")
    for file in sorted(out.iterdir()):
        print(f"{visible(file)}  {file.stat().st_size / 1e6:.3f} MB")
    for form, found in manifest["parity"].items():
        print(
            f"{form} against the run, on {found['on']}: largest difference {found['largest_difference']:.1e}, "
            f"the same choice in {found['agreement']:.2%}"
        )
    return 0


FORMS = {"bundle": to_bundle, "onnx": to_bundle, "huggingface": to_huggingface}
