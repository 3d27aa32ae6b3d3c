"""Where the project lies, and its documents with tables that tools write between markers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Paths relative to the root.
README = "README.md"  # the ledger's rows with a published number, all seeds run
RESULTS_PAGE = "docs/results.md"  # the ledger, whole
RELIABILITY_PAGE = "docs/reliability.md"  # `almanac stress`
BENCHMARKS_PAGE = "docs/benchmarks.md"  # `almanac benchmark`
