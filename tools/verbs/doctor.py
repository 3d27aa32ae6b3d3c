"""What is installed, what the machine offers, and whether a step compiles and runs; of a run directory, whether it is whole.

Exit status 0 if all is well, 1 if something is wrong; each fault comes with its remedy.
"""

import argparse
from collections.abc import Iterable, Sequence

from tools.doctor import rows

HOSTS = ("--hosts", "--host-id", "--coordinator")  # with these it is several hosts that are looked at


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="several hosts: almanac doctor [NAME] --hosts N --host-id I --coordinator HOST:PORT, on each",
    )
    parser.add_argument("run", nargs="?", metavar="DIR", help="a run directory: its files in place of this machine")
    if any(word.split("=")[0] in HOSTS for word in argv):
        from tools.doctor import hosts

        found: Iterable[rows.Row] = hosts.examine(argv)
    elif run := parser.parse_args(argv).run:
        from tools.doctor import run_directory

        found = run_directory.examine(run)
    else:
        from tools.doctor import machine

        found = machine.examine()
    return int(rows.report(found) > 0)
