"""Checks the installation, the machine and a compiled step; or, with DIR, the files of a run directory.

Exit status: 0 if there is no fault, 1 otherwise. Each fault is printed with its remedy.
"""

import argparse
from collections.abc import Iterable, Sequence

from tools.doctor import rows

HOSTS = ("--hosts", "--host-id", "--coordinator")  # with these, several hosts are compared


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="several hosts: almanac doctor [NAME] --hosts N --host-id I --coordinator HOST:PORT, on each",
    )
    parser.add_argument("run", nargs="?", metavar="DIR", help="check this run directory instead of the machine")
    if any(word.split("=")[0] in HOSTS for word in argv):
        from tools.doctor import hosts

        findings: Iterable[rows.Row] = hosts.examine(argv)
    elif run := parser.parse_args(argv).run:
        from tools.doctor import run_directory

        findings = run_directory.examine(run)
    else:
        from tools.doctor import machine

        findings = machine.examine()
    return int(rows.report(findings) > 0)
