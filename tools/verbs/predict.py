"""`almanac predict RUN FILE...`"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.util.errors import UserError
from research.util.escape import json_line
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac predict",
        description="Applies a run to files and prints one JSON object per file, each on a line.",
    )
    arguments.add_run(parser)
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(argv)

    import jax

    from research.run import reopen

    e, state, _ = reopen.load(args.run, args.checkpoint)
    fn = jax.jit(e.predictor.fn)
    for file in args.files:
        outputs = jax.device_get(fn(state.variables, _encode(e.predictor, file)))
        print(json_line({"file": file, **e.predictor.decode(outputs)}, sys.stdout.encoding))
    return 0


def _encode(predictor: Any, file: str) -> Mapping:
    value = predictor.read(Path(file))
    try:
        return predictor.encode(value)
    except UserError as e:
        raise UserError(f"{file}: {e}") from None
