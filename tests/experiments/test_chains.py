"""What every family's codec takes and gives is said, or it is in no chain."""

import importlib

import pytest

from research.core.experiment import Codec
from research.data import codecs
from tests.contract.families import FAMILIES

IN_NO_CHAIN = {"frame_errors", "with_class"}  # a file is a stream of values; the class comes from the name of a folder


@pytest.fixture(scope="module")
def known():
    for family in FAMILIES:
        importlib.import_module(f"experiments.{family}.train")
    mine = {
        name: cls for name, cls in codecs._CLASSES.items() if cls.__module__.startswith(("research.", "experiments."))
    }
    return {name: cls for name, cls in mine.items() if Codec in cls.__mro__}


def test_each_says_what_it_takes(known):
    assert len(known) > 20
    assert {name for name, cls in known.items() if not cls.takes} == IN_NO_CHAIN


def test_what_is_no_record_is_made_of_one(known):
    """And what is made is said to be none."""
    assert {name for name, cls in known.items() if cls.gives != "record"} == {
        name for name, cls in known.items() if cls.handed_on is not Codec.handed_on
    }
