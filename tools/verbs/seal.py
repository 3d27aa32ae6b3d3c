"""`almanac seal PATH ...` and `almanac seal --new-key`"""

import argparse
from pathlib import Path

from research.util import sealed
from research.util.errors import UserError
from research.util.escape import visible


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac seal",
        description="Encrypts the files of bundles, and in folders of `almanac serve --monitor` what was captured, with the "
        f"first of the keys in {sealed.KEYS} or the file {sealed.KEYS_FILE}. What is sealed with one of the others is sealed "
        "anew, so that a new key comes into use if it is put first. Interrupted, it goes on where it was.",
        epilog="Every verb opens what is sealed if it finds the key there. docs/feedback.md says what is not sealed.",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a bundle, or a folder of --monitor")
    parser.add_argument("--new-key", action="store_true", help="print a new key, which is kept nowhere, and end")
    args = parser.parse_args(argv)
    if args.new_key == bool(args.paths):
        parser.error("give what to seal, or --new-key")
    if args.new_key:
        print(sealed.new_key())
        return 0
    keys = sealed.from_environment()
    if keys is None:
        raise UserError(f"no key: set {sealed.KEYS} or {sealed.KEYS_FILE}; almanac seal --new-key makes one")
    for path in args.paths:
        print(f"{visible(path)}  {_seal(path, keys)}")
    return 0


def _seal(path: Path, keys: sealed.Keys) -> str:
    from research.serving.monitor import store

    if (path / store.FILE).is_file():
        return f"{store.Store(path).seal():,} rows sealed"
    from research.serving import bundle

    if bundle.is_bundle(path):
        return f"{bundle.seal(path, keys):,} files sealed"
    raise UserError(f"{path} is no bundle and no folder of almanac serve --monitor")
