"""The examples in docstrings of research/, experiments/ and tools/ print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    f
    for room in ("research", "experiments", "tools")
    for f in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in f.read_text("utf-8")
]
MODULES = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in FILES]


def test_there_are_examples():
    assert {"research.losses.classification", "experiments.options", "tools.results.ledger"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module)  # which prints what differs
    assert results.attempted and not results.failed
