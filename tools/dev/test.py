"""Runs the tests, by kind.

Without a flag: all tests that are quick, need no GPU, and whose data and packages are available.
With a flag: only that kind; with several flags, their union. Paths, test ids and any other
argument are passed to pytest, relative to the current folder.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from research.util.errors import UserError
from tools.root import ROOT

KINDS = {
    "contract": "the contract in real processes, for all families; without the flag for two",
    "slow": "tests of over thirty seconds",
    "gpu": "tests that need a GPU",
    "docs": "the commands and the code in the documents and notebooks",
    "data": "tests on real data, from the folder ALMANAC_MIRROR",
    "parity": "comparisons with PyTorch and Transformers, which are installed if they are missing",
}
ONLY_ON_REQUEST = {"contract": "(not contract or quick)", "slow": "not slow", "gpu": "not gpu", "docs": "not docs"}


def main(argv: Sequence[str]) -> int:
    """Runs pytest in this process and returns its exit status."""
    args, pytest_args = _parser().parse_known_args(argv)
    chosen = [kind for kind in KINDS if getattr(args, kind)]
    mirror = os.environ.get("ALMANAC_MIRROR")
    if args.data and not mirror:
        raise UserError("--data needs real data: set ALMANAC_MIRROR to its folder")
    if args.parity and not _has_torch():
        _install("parity")
    os.environ["JAX_PLATFORMS"] = "cuda,cpu" if args.gpu else "cpu"
    missing = [kind for kind, available in (("data", mirror), ("parity", _has_torch())) if not available]

    targets = any(Path(a.partition("::")[0]).exists() for a in pytest_args)
    # A worker takes seconds to start, which pays off for all tests, but not for a few named ones.
    workers = args.n if args.n is not None else 0 if targets or args.k else min(os.cpu_count() or 1, 8)
    status = pytest.main(
        [
            f"--config-file={ROOT / 'pyproject.toml'}",
            f"--rootdir={ROOT}",
            *(f"--numprocesses={workers}", "--dist=loadscope"),
            *("-m", selection(chosen, missing)),
            *(["-k", args.k] if args.k else []),
            *([] if targets else [str(ROOT / "tests")]),
            *pytest_args,
        ]
    )
    print(f"data mirror: {mirror}" if mirror else "no data mirror: tests marked `data` were skipped")
    if "parity" in missing:
        print("no PyTorch: tests marked `parity` were skipped; almanac test --parity installs it")
    return int(status)


def selection(chosen: Sequence[str], missing: Sequence[str]) -> str:
    """The pytest marker expression for the chosen kinds, without the missing ones, which cannot run here.

    >>> selection(["slow"], ["data"])
    '(slow) and (not contract or quick) and not gpu and not docs and not data'
    """
    terms = [f"({' or '.join(chosen)})"] if chosen else []
    terms += [term for kind, term in ONLY_ON_REQUEST.items() if kind not in chosen]
    return " and ".join(terms + [f"not {kind}" for kind in missing if kind not in chosen])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="almanac test",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for kind, text in KINDS.items():
        parser.add_argument(f"--{kind}", action="store_true", help=text)
    parser.add_argument("-k", metavar="EXPRESSION", help="only tests whose names match")
    parser.add_argument("-n", type=int, metavar="WORKERS", help="number of processes; 0: run in this one")
    return parser


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _install(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = project["optional-dependencies"][extra]
    print(f"installing {' and '.join(packages)}")
    if subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *packages]):
        raise UserError(f"could not install {' '.join(packages)}; pip says why above")
    importlib.invalidate_caches()
