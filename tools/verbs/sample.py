"""`almanac sample RUN [--prompt TEXT] ...`"""

import argparse
import inspect
from pathlib import Path
from typing import Any

from research.util import run_files
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from tools.verbs import arguments

OF_PICTURES = ("steps", "eta", "guidance", "label")  # not even a family that takes any option of text has these


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac sample", description="Generates samples from a run: text to the terminal, images to --out."
    )
    arguments.add_run(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="for images; default: RUN/samples/samples.png")
    text = parser.add_argument_group("text (default: the config's sample group)")
    text.add_argument("--prompt", help="the text to continue")
    text.add_argument("--length", type=int, help="tokens to add")
    text.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end at this text; may be repeated")
    text.add_argument("--temperature", type=float, help="0: the top-1 token")
    for name, kind in (("top_k", int), ("top_p", float), ("min_p", float), ("repetition_penalty", float)):
        text.add_argument(f"--{name.replace('_', '-')}", type=kind)
    text.add_argument("--regex", help="an expression that the whole new text matches")
    text.add_argument("--json-schema", type=Path, metavar="FILE", help="a JSON schema for the new text")
    text.add_argument("--chat", type=Path, metavar="FILE", help="reply to the messages of a JSON file")
    text.add_argument("--chat-template", type=Path, metavar="FILE", help="a Jinja template in place of ChatML")
    text.add_argument("--few-shot", type=Path, metavar="FILE", help='JSONL of {"input", "output"}, before the prompt')
    text.add_argument("--shots", type=int, help="the number of examples (default: 4)")
    text.add_argument("--instructions", metavar="TEXT", help="text before the examples")
    text.add_argument(
        "--choice",
        action="append",
        default=[],
        metavar="TEXT",
        help="rank these texts instead of generating; repeat for each",
    )
    text.add_argument("--draft", metavar="RUN", help="the run of a smaller model, for speculative decoding")
    text.add_argument("--ahead", type=int, help="tokens drafted at a time (default: 4)")
    text.add_argument("--beam", type=int, metavar="N", help="beam search with N beams instead of sampling")
    pictures = parser.add_argument_group("pictures (default: the config's sample group)")
    pictures.add_argument("--steps", type=int, help="diffusion: from noise to picture")
    pictures.add_argument("--eta", type=float, help="diffusion: 0: DDIM; 1: DDPM")
    pictures.add_argument("--guidance", type=float, help="diffusion: towards the class; 0: none")
    pictures.add_argument("--label", metavar="NAME", help="the class of all pictures (default: a row of each)")
    args = vars(parser.parse_args(argv))

    import jax

    from research.run import reopen

    run = Path(args.pop("run"))
    e, state, _ = reopen.load(run, args.pop("checkpoint"))
    if e.sample is None:
        raise UserError(f"{e.cfg.name} does not generate; try `almanac predict {run} FILE`")
    seed, out = args.pop("seed"), args.pop("out")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed={seed}: at least 0 and below 2**63")
    key = jax.random.key(seed)
    options = _given(args, e.sample, e.cfg.name)
    if "draft" in options:
        options["draft"] = reopen.load(options["draft"])[:2]
    for piece in e.sample(e, state, key, out or run_files.inside(run, "samples") / "samples.png", **options):
        print(visible(piece, keep=TEXT), end="", flush=True)
    print()
    return 0


def _given(args: dict[str, Any], sample: Any, name: str) -> dict[str, Any]:
    """The options that are set. Raises UserError if the family's `sample` does not accept one of them."""
    options = {k: v for k, v in args.items() if v not in (None, [])}
    parameters = inspect.signature(sample).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [k for k in options if k not in parameters and (k in OF_PICTURES or not takes_any)]
    if unknown:
        option = f"--{unknown[0].replace('_', '-')}"
        if "prompt" in parameters or unknown[0] in OF_PICTURES:
            raise UserError(f"{option} is not an option of {name}")
        raise UserError(f"{option} is for text; {name} generates images")
    return options
