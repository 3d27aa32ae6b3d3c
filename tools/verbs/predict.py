"""`almanac predict RUN FILE...`"""

import argparse

from research.util.escape import json_line
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac predict", description="Applies a run to files: one JSON object a line and file."
    )
    arguments.add_run(parser)
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(argv)

    import jax

    from research.run import reopen

    e, state, _ = reopen.load(args.run, args.checkpoint)
    fn = jax.jit(e.predictor.fn)
    for file in args.files:
        outputs = jax.device_get(fn(state.variables, e.predictor.encode(file)))
        print(json_line({"file": file, **e.predictor.decode(outputs)}))
    return 0
