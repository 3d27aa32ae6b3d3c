"""`almanac show NAME [--config.KEY=VALUE ...]`"""

import argparse
import sys
import textwrap
from typing import Any

from experiments import options
from research.core import config
from research.util.escape import visible


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac show", allow_abbrev=False,
        description="Prints the config, the parameters with their shardings, the batch, durations in steps and a step's FLOPs.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", help="FAMILY/NAME, or a run's config.json")
    args, changes = options.overrides(argv, parser)
    cfg = config.load(args.name, changes)
    _config(cfg)
    sys.stdout.flush()  # before JAX is imported and the data read

    from tools.verbs import show_experiment

    show_experiment.show(cfg)
    return 0


def _config(cfg: Any) -> None:
    """Prints the recipe (keys that differ from the family's defaults), then the other keys, then the keys without a value."""
    keys, defaults = config.flatten(cfg), _defaults(cfg)
    absent = object()
    recipe = [key for key in keys if key != "name" and keys[key] != defaults.get(key, absent)]
    unset = [key for key in keys if keys[key] is None and key not in recipe]
    unchanged = [key for key in keys if key not in {*recipe, *unset, "name"}]
    width = max(map(len, keys))
    print(visible(cfg.name))
    for title, chosen in (("recipe", recipe), ("defaults", unchanged)):
        print(f"\n{title}")
        print("\n".join(f"  {visible(key):<{width}}  {visible(repr(keys[key]))}" for key in chosen))
    if unset:
        print("\nnot set")
        print(textwrap.fill(visible(", ".join(unset)), 100, initial_indent="  ", subsequent_indent="  "))


def _defaults(cfg: Any) -> dict[str, Any]:
    """{key: default} of the config's family, and of its own model."""
    name = config.flatten(config.defaults(config.family(cfg.name))).get("model.name")
    return config.flatten(config.defaults_of(cfg)) | {"model.name": name}
