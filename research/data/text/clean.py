"""Documents made plain, and those that say what another has said left out.

Near duplicates are documents whose sets of shingles (all runs of `SHINGLE` characters, upper and lower case and
white space told apart no further) have a Jaccard similarity of `NEAR` or more. Characters, because not every
script parts its words. MinHash finds the candidates (Broder 1997; banded: Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, section 3.4), and every one is compared exactly: what is taken out is as similar as stated,
and a pair of similarity 0.8 is overlooked once in twenty thousand. The same documents in the same order give
the same answer everywhere.
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

if TYPE_CHECKING:  # its import takes SciPy with it, a third of a second that `near` alone needs
    import datasketch

SHINGLE = 5  # characters
NEAR = 0.8  # Jaccard similarity
BANDS, ROWS = 25, 5  # 1 - (1 - s^5)^25 of the pairs of similarity s are compared
_PART = 10_000  # shingles hashed at once: the library makes BANDS * ROWS numbers of each
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@functools.cache
def _table() -> dict[int, str | None]:
    """For `str.translate`. Made when it is first wanted: it looks at every character there is."""
    lines = dict.fromkeys(map(ord, "\v\f\x85\u2028\u2029"), "\n")
    spaces = {i: " " for i in range(sys.maxunicode) if unicodedata.category(chr(i)) == "Zs"} | {ord("\t"): " "}
    control = {i: None for i in range(0xA0) if unicodedata.category(chr(i)) == "Cc" and chr(i) not in "\n\t\v\f\x85"}
    return {**control, **spaces, **lines, 0xFEFF: None}  # a byte order mark inside a text is one no more


def normalise(text: str) -> str:
    """Unicode NFC, no control characters, one kind of white space.

    Lines end in `\\n`, lose the white space at their ends and have single spaces inside; more than one empty
    line is one. Characters that join or part others (of emoji, Arabic, Indic scripts) stay.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").translate(_table()))
    text = re.sub(r" *\n *", "\n", re.sub(" {2,}", " ", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip(" \n")


@dataclasses.dataclass(frozen=True)
class Twin:
    """Document `index` says what document `of`, before it, says; `similarity` is 1 for the same text."""

    index: int
    of: int
    similarity: float


def exact(texts: Sequence[str]) -> list[Twin]:
    """Documents that are another, character by character; the first of them is kept."""
    first: dict[bytes, int] = {}
    found = []
    for i, text in enumerate(texts):
        of = first.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), i)
        if of != i:
            found.append(Twin(i, of, 1.0))
    return found


def near(texts: Sequence[str]) -> list[Twin]:
    """Documents at least `NEAR` to one before them that is kept."""
    import datasketch

    same = {twin.index: twin for twin in exact(texts)}
    index = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    found = []
    for i, text in enumerate(texts):
        if i in same:
            found.append(same[i])
            continue
        mine = shingles(text)
        sketch = _sketch(mine)
        close = ((of, jaccard(mine, shingles(texts[of]))) for of in sorted(index.query(sketch)))
        if twin := next((Twin(i, of, s) for of, s in close if s >= NEAR), None):
            found.append(twin)
        else:
            index.insert(i, sketch)
    # The first of some equal texts may itself have been taken out: then they are twins of what it was like.
    by = {twin.index: twin for twin in found}
    return [dataclasses.replace(by.get(twin.of, twin), index=twin.index) for twin in found]


METHODS: dict[str, Callable[[Sequence[str]], list[Twin]]] = {"exact": exact, "near": near}


def shingles(text: str) -> np.ndarray:
    """The different runs of `SHINGLE` characters as numbers, u64[n], ascending; a shorter text is one run."""
    text = " ".join(text.casefold().split())
    letters = points(text.ljust(SHINGLE)).astype(np.uint64)
    n = len(letters) - SHINGLE + 1
    runs = np.zeros(n, np.uint64)
    for j in range(SHINGLE):
        runs = (runs ^ letters[j : j + n]) * _PRIME  # modulo 2^64
        runs ^= runs >> np.uint64(29)
    return np.unique(runs)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|a and b| / |a or b| of two sets, as ascending arrays."""
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
    """What is kept of documents: their numbers, their texts, and a report of what changed and what went."""
    if deduplicate is not None and deduplicate not in METHODS:
        raise UserError(f"data.deduplicate = {deduplicate!r}{nearest(deduplicate, METHODS)}")
    report = []
    plain = [normalise(text) for text in texts] if clean else list(texts)
    kept = [i for i, text in enumerate(plain) if text]
    if clean:
        changed = sum(a != b for a, b in zip(texts, plain, strict=True))
        sizes = f"{sum(map(len, texts)):,} characters to {sum(map(len, plain)):,}"
        report.append(f"cleaned  {changed:,} of {len(texts):,} documents, {sizes}")
    if deduplicate is not None:
        twins = METHODS[deduplicate]([plain[i] for i in kept])
        report += _told(twins, [names[i] for i in kept], deduplicate)
        gone = {kept[twin.index] for twin in twins}
        kept = [i for i in kept if i not in gone]
    return kept, [plain[i] for i in kept], report


def _told(twins: Sequence[Twin], names: Sequence[str], method: str) -> list[str]:
    same = sum(twin.similarity == 1 for twin in twins)
    kinds = {
        "exact": f"{same:,} the same",
        "near": f"{same:,} the same, {len(twins) - same:,} at least {NEAR:.0%} alike",
    }
    pairs = [f"{names[twin.index]} = {names[twin.of]} ({twin.similarity:.0%})" for twin in twins]
    went = list(user_files.listed("", pairs))[1:]
    return [f"twins    {len(twins):,} of {len(names):,} documents left out: {kinds[method]}", *went]
