"""The families that the contract is tested on: every folder of experiments/ with a train.py."""

from pathlib import Path

import experiments
from research.core import config
from research.run import reopen

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = sorted(p.parent.name for root in experiments.__path__ for p in Path(root).glob("*/train.py"))


def experiment(family, *overrides):
    """The family's `tiny`, built."""
    return reopen.build(family, config.load(f"{family}/tiny", overrides))
