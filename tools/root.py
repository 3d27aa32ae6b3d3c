"""The project's root folder, and its documents that contain generated tables."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Paths relative to the root.
README = "README.md"  # the ledger's rows with a published number whose seeds have all been run
RESULTS_PAGE = "docs/results.md"  # the complete ledger
RELIABILITY_PAGE = "docs/reliability.md"  # `almanac stress`
BENCHMARKS_PAGE = "docs/benchmarks.md"  # `almanac benchmark`
