"""`almanac sample RUN [--prompt TEXT] ...`"""

import argparse
import inspect
from pathlib import Path
from typing import Any

from research.util import run_files
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac sample", description="Generates from a run: text to the terminal, pictures to --out."
    )
    arguments.add_run(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="pictures: default RUN/samples/samples.png")
    text = parser.add_argument_group("text (default: the config's sample group)")
    text.add_argument("--prompt", help="what to continue")
    text.add_argument("--length", type=int, help="tokens to add")
    text.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end at this text; may be repeated")
    text.add_argument("--temperature", type=float, help="0 takes the likeliest token")
    for name, kind in (("top_k", int), ("top_p", float), ("min_p", float), ("repetition_penalty", float)):
        text.add_argument(f"--{name.replace('_', '-')}", type=kind)
    text.add_argument("--regex", help="what the new text matches, whole")
    text.add_argument("--json-schema", type=Path, metavar="FILE", help="a JSON schema that the new text obeys")
    text.add_argument("--chat", type=Path, metavar="FILE", help="reply to the messages of a JSON file")
    text.add_argument("--chat-template", type=Path, metavar="FILE", help="a Jinja template in place of ChatML")
    text.add_argument("--few-shot", type=Path, metavar="FILE", help='JSONL of {"input", "output"}, before the prompt')
    text.add_argument("--shots", type=int, help="how many of them (default: 4)")
    text.add_argument("--instructions", metavar="TEXT", help="what stands before them")
    text.add_argument("--choice", action="append", default=[], metavar="TEXT", help="choose; may be repeated")
    text.add_argument("--draft", metavar="RUN", help="a smaller model's run, for speculative decoding")
    text.add_argument("--ahead", type=int, help="tokens that it drafts at a time (default: 4)")
    text.add_argument("--beam", type=int, metavar="N", help="search with N beams in place of drawing")
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
    given = _given(args, e.sample, e.cfg.name)
    if "draft" in given:
        given["draft"] = reopen.load(given["draft"])[:2]
    for piece in e.sample(e, state, key, out or run_files.inside(run, "samples") / "samples.png", **given):
        print(visible(piece, keep=TEXT), end="", flush=True)
    print()
    return 0


def _given(args: dict[str, Any], sample: Any, name: str) -> dict[str, Any]:
    """The options that were given; UserError for one that the family's `sample` does not take."""
    given = {k: v for k, v in args.items() if v not in (None, [])}
    takes = inspect.signature(sample).parameters
    if given and "prompt" not in takes:
        raise UserError(f"--{next(iter(given))} is for text; {name} makes pictures")
    takes_more = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    if not takes_more and (other := [k for k in given if k not in takes]):
        raise UserError(f"--{other[0].replace('_', '-')} means nothing to {name}")
    return given
