"""A process of its own that compiles an expression: its time and memory have a bound, which the library gives none.

Reads {"pattern", "tokens": [[bytes as Latin-1, their ids], ...], "eos", "memory"} as JSON, writes outlines-core's index in its
binary form. What is wrong with the expression stands on stderr, with status 1.
"""

import json
import sys

from outlines_core import Index, Vocabulary


def main() -> None:
    given = json.load(sys.stdin)
    try:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
    except (ImportError, ValueError, OSError):  # a lower bound is set already, or the system has none
        pass
    ids = {text.encode("latin-1"): numbers for text, numbers in given["tokens"]}
    try:
        index = Index(given["pattern"], Vocabulary(given["eos"], ids))  # type: ignore[arg-type]  # its stub knows no bytes
    except ValueError as e:
        sys.exit(str(e))
    sys.stdout.buffer.write(index.__reduce__()[1][0])


if __name__ == "__main__":
    main()
