"""Checks calls of the rooms that conftest.py names. Imported before JAX is set up: nothing of ours here."""

from collections.abc import Callable

from beartype import BeartypeConf, beartype

CONF = BeartypeConf(is_pep484_tower=True)  # an int will do for a float, as to mypy


def check(function: Callable) -> Callable:
    """Fields are not checked: JAX makes its pytrees of anything, of shapes or of shardings."""
    return function if function.__name__ == "__init__" else beartype(function, conf=CONF)
