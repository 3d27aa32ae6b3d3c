"""Normalised documents without exact or near duplicates.

Near duplicates are documents whose sets of shingles (all runs of `SHINGLE` characters, ignoring case and the kind of
white space) have a Jaccard similarity of `NEAR` or more. Characters, because not every script separates words. MinHash
finds the candidates (Broder 1997; with bands: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4),
and every candidate is compared exactly: no document below `NEAR` is removed, and a pair of similarity 0.8 is missed with
probability 1/20,000. The result is deterministic in the documents and their order.
"""

import dataclasses
import functools
import hashlib
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from research.data import user_files
from research.data.tokenizers.base import points
from research.util.errors import UserError, nearest

if TYPE_CHECKING:  # it imports SciPy, a third of a second, and only `near` needs it
    import datasketch

SHINGLE = 5  # characters
NEAR = 0.8  # Jaccard similarity
BANDS, ROWS = 25, 5  # a pair of similarity s is compared with probability 1 - (1 - s^5)^25
_PART = 10_000  # shingles hashed at once: the library computes BANDS * ROWS hashes of each
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@functools.cache
def _table() -> dict[int, str | None]:
    """For `str.translate`. Computed on first use, because it iterates over all of Unicode."""
    lines = dict.fromkeys(map(ord, "\v\f\x85\u2028\u2029"), "\n")
    spaces = {i: " " for i in range(sys.maxunicode) if unicodedata.category(chr(i)) == "Zs"} | {ord("\t"): " "}
    control = {i: None for i in range(0xA0) if unicodedata.category(chr(i)) == "Cc" and chr(i) not in "\n\t\v\f\x85"}
    return {**control, **spaces, **lines, 0xFEFF: None}  # a byte order mark inside a text


def normalise(text: str) -> str:
    """Unicode NFC, no control characters, one kind of white space.

    Lines end in `\\n`, are stripped of white space at both ends and have single spaces inside; several empty lines
    become one. Joiners and non-joiners (of emoji, Arabic, Indic scripts) stay.

    >>> normalise("a\\t b \\r\\n c")
    'a b\\nc'
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").translate(_table()))
    text = re.sub(r" *\n *", "\n", re.sub(" {2,}", " ", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip(" \n")


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """Document `index` duplicates the earlier document `of`; `similarity` is 1 for equal texts."""

    index: int
    of: int
    similarity: float


def exact(texts: Sequence[str]) -> list[Duplicate]:
    """Documents equal to an earlier one, character by character.

    >>> exact(["b", "a", "b"])
    [Duplicate(index=2, of=0, similarity=1.0)]
    """
    first: dict[bytes, int] = {}
    duplicates = []
    for i, text in enumerate(texts):
        of = first.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), i)
        if of != i:
            duplicates.append(Duplicate(i, of, 1.0))
    return duplicates


def near(texts: Sequence[str]) -> list[Duplicate]:
    """Documents whose similarity to an earlier document that is kept is at least `NEAR`."""
    import datasketch

    equal = {duplicate.index: duplicate for duplicate in exact(texts)}
    index = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    duplicates = []
    for i, text in enumerate(texts):
        if i in equal:
            duplicates.append(equal[i])
            continue
        runs = shingles(text)
        sketch = _sketch(runs)
        candidates = ((of, jaccard(runs, shingles(texts[of]))) for of in sorted(index.query(sketch)))
        if duplicate := next((Duplicate(i, of, s) for of, s in candidates if s >= NEAR), None):
            duplicates.append(duplicate)
        else:
            index.insert(i, sketch)
    # If the first of some equal texts is itself a near duplicate, all of them are duplicates of the same document.
    by_index = {d.index: d for d in duplicates}
    return [dataclasses.replace(by_index.get(d.of, d), index=d.index) for d in duplicates]


METHODS: dict[str, Callable[[Sequence[str]], list[Duplicate]]] = {"exact": exact, "near": near}


def shingles(text: str) -> np.ndarray:
    """Hashes of the distinct runs of `SHINGLE` characters, u64[n], ascending; a shorter text is one run."""
    text = " ".join(text.casefold().split())
    letters = points(text.ljust(SHINGLE)).astype(np.uint64)
    n = len(letters) - SHINGLE + 1
    runs = np.zeros(n, np.uint64)
    for j in range(SHINGLE):
        runs = (runs ^ letters[j : j + n]) * _PRIME  # modulo 2^64
        runs ^= runs >> np.uint64(29)
    return np.unique(runs)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|a and b| / |a or b| of two sets, as ascending arrays.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def _sketch(runs: np.ndarray) -> "datasketch.MinHash":
    import datasketch

    sketch = datasketch.MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int)
    for start in range(0, len(runs), _PART):
        sketch.update_batch((runs[start : start + _PART] >> np.uint64(32)).tolist())
    return sketch


def documents(
    names: Sequence[str], texts: Sequence[str], clean: bool | None, deduplicate: str | None
) -> tuple[list[int], list[str], list[str]]:
    """-> the indices of the documents kept, their texts, and lines for a report. Raises UserError for an unknown method."""
    if deduplicate is not None and deduplicate not in METHODS:
        raise UserError(f"data.deduplicate = {deduplicate!r}{nearest(deduplicate, METHODS)}")
    report = []
    cleaned = [normalise(text) for text in texts] if clean else list(texts)
    kept = [i for i, text in enumerate(cleaned) if text]
    if clean:
        changed = sum(a != b for a, b in zip(texts, cleaned, strict=True))
        sizes = f"{sum(map(len, texts)):,} characters to {sum(map(len, cleaned)):,}"
        report.append(f"cleaned  {changed:,} of {len(texts):,} documents, {sizes}")
    if deduplicate is not None:
        duplicates = METHODS[deduplicate]([cleaned[i] for i in kept])
        report += _report(duplicates, [names[i] for i in kept], deduplicate)
        removed = {kept[duplicate.index] for duplicate in duplicates}
        kept = [i for i in kept if i not in removed]
    return kept, [cleaned[i] for i in kept], report


def _report(duplicates: Sequence[Duplicate], names: Sequence[str], method: str) -> list[str]:
    equal = sum(duplicate.similarity == 1 for duplicate in duplicates)
    kinds = {
        "exact": f"{equal:,} the same",
        "near": f"{equal:,} the same, {len(duplicates) - equal:,} at least {NEAR:.0%} alike",
    }
    pairs = [f"{names[d.index]} = {names[d.of]} ({d.similarity:.0%})" for d in duplicates]
    lines = list(user_files.listed("", pairs))[1:]
    return [f"twins    {len(duplicates):,} of {len(names):,} documents left out: {kinds[method]}", *lines]
