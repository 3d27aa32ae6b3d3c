"""`almanac evaluate RUN [--split valid] [--json] [--config.evals.NAME.KEY=VALUE ...]`"""

import argparse
import json
import math

from experiments import options
from research.util.errors import UserError, nearest
from research.util.escape import visible
from tools.verbs import arguments


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac evaluate",
        description="Evaluates a run on its data, as during training, or on a further set.",
        epilog="A further set is any source of the family, with the keys of its data group, encoded as the run's own data: "
        "--split=NAME --config.evals.NAME.source=files --config.evals.NAME.path=FILE. NAME.part chooses train, valid or test "
        "of the source; the default is all of it.",
    )
    arguments.add_run(parser)
    parser.add_argument("--split", help="default: valid, else the experiment's first split")
    parser.add_argument("--json", action="store_true", help="one line: step, split and values in full precision")
    args, changes = options.overrides(argv, parser)

    import jax

    from research.core import evaluation, mesh
    from research.run import reopen

    e, state, step = reopen.load(args.run, args.checkpoint, changes)
    splits = evaluation.measurable(e)
    split = args.split or ("valid" if "valid" in splits else splits[0])
    if split not in splits:
        raise UserError(f"--split={split}: this experiment has no such split{nearest(split, splits)}")
    devices = mesh.of(state.params)
    with jax.set_mesh(devices):  # as in training, so that the values are equal to the logged ones
        result = evaluation.measure(e, state, split, args.run, devices)
    if args.json:
        values = {name: value if math.isfinite(value) else None for name, value in result.values.items()}
        print(json.dumps({"step": step, "split": split, "values": values}))
        return 0
    count = f", {len(e.evals[split].source):,} examples of {split}" if split in e.evals else ""
    print("\n".join([f"step {step:,}{count}", *map(visible, result.lines)]))
    for name, value in result.values.items():
        print(f"  {split}/{visible(name):<20} {value:.4f}")
    return 0
