"""The tests, by kind.

With no flag: everything that is quick, needs no GPU, and whose data and packages are here.
A flag runs that kind instead; several flags run their union. Paths, test ids and any other
argument go to pytest, from where you stand.
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
    "contract": "what each family promises in real processes, of all families; the quick run has three",
    "slow": "those over thirty seconds",
    "gpu": "those that need a GPU",
    "docs": "the commands and the code in the documents and notebooks",
    "data": "those on real data: ALMANAC_MIRROR names its folder",
    "parity": "against PyTorch and Transformers, installed first if they are missing",
}
ONLY_ON_REQUEST = {"contract": "(not contract or quick)", "slow": "not slow", "gpu": "not gpu", "docs": "not docs"}


def main(argv: Sequence[str]) -> int:
    """Runs pytest in this process and returns its exit status."""
    args, rest = _parser().parse_known_args(argv)
    chosen = [kind for kind in KINDS if getattr(args, kind)]
    mirror = os.environ.get("ALMANAC_MIRROR")
    if args.data and not mirror:
        raise UserError("--data needs real data: set ALMANAC_MIRROR to the folder that holds it")
    if args.parity and not _has_torch():
        _install("parity")
    os.environ["JAX_PLATFORMS"] = "cuda,cpu" if args.gpu else "cpu"
    missing = [k for k, here in (("data", mirror), ("parity", _has_torch())) if not here]

    targets = any(Path(a.partition("::")[0]).exists() for a in rest)
    # Workers cost seconds each to start: worth it for the whole, not for a few named tests.
    workers = args.n if args.n is not None else 0 if targets or args.k else min(os.cpu_count() or 1, 8)
    status = pytest.main(
        [
            f"--config-file={ROOT / 'pyproject.toml'}",
            f"--rootdir={ROOT}",
            *(f"--numprocesses={workers}", "--dist=loadgroup"),
            *("-m", selection(chosen, missing)),
            *(["-k", args.k] if args.k else []),
            *([] if targets else [str(ROOT / "tests")]),
            *rest,
        ]
    )
    print(f"data mirror: {mirror}" if mirror else "no data mirror: tests marked `data` were left out")
    if "parity" in missing:
        print("no PyTorch: tests marked `parity` were left out; almanac test --parity installs it")
    return int(status)


def selection(chosen: Sequence[str], missing: Sequence[str]) -> str:
    """The pytest marker expression for the chosen kinds, without those that cannot run here."""
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
    parser.add_argument("-n", type=int, metavar="WORKERS", help="processes; 0 is this one")
    return parser


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _install(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra]
    print(f"installing {' and '.join(wanted)}")
    if subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *wanted]):
        raise UserError(f"could not install {' '.join(wanted)}; pip says why above")
    importlib.invalidate_caches()
