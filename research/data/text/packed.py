"""Documents packed into windows, several to one, told apart by segment numbers so that none looks at another.

The packing is made once, and depends on the documents' lengths alone: best fit, the longest first (Johnson 1973).
The order of the windows is the stream's.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from research.data.pipeline import Batch
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError


def encode(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """A document each -> its tokens, between the tokenizer's `bos` and `eos` where it has them: i32[n]."""
    first, last = (np.array([tokenizer.special[k]] if k in tokenizer.special else [], np.int32) for k in ("bos", "eos"))
    for text in texts:
        yield np.concatenate([first, tokenizer.encode(text), last])


class Packed:
    """Windows of `length` tokens T, as a random-access source. A document of n tokens has n - 1 targets.

    A document longer than a window is cut into pieces of T targets, each a segment for itself: every token
    but a document's first is a target exactly once. `{"tokens", "targets": i32[n, T]; "segments": i32[n, T],
    1, 2, ... and 0 where the window is not filled; "places": i32[n, T], from 0 in every segment; "token_mask":
    f32[n, T], 1 where a target counts}`.
    """

    def __init__(self, documents: Iterable[np.ndarray], length: int):
        if length < 1:
            raise UserError(f"data.length = {length}: at least 1")
        found = [np.asarray(document, np.int32) for document in documents]
        sizes = np.array([len(document) for document in found], np.int64)
        self.length, self._tokens = length, np.concatenate([np.zeros(0, np.int32), *found])
        starts = [s + np.arange(0, max(n - 1, 0), length) for s, n in zip(np.cumsum(sizes) - sizes, sizes, strict=True)]
        ends = [np.full(len(s), end - 1) for s, end in zip(starts, np.cumsum(sizes), strict=True)]
        first = np.concatenate([np.zeros(0, np.int64), *starts])
        self._first, self._size = first, np.minimum(np.concatenate([first[:0], *ends]) - first, length)  # of pieces
        if not len(first):
            raise UserError("data.packing = True: no document has two tokens")
        self._windows = _best_fit(self._size, length)
        pieces, places = len(first), len(self._windows) * length
        empty = 1 - int(self._size.sum()) / places
        self.report = (
            f"{len(found):,} documents, {pieces:,} pieces in {len(self._windows):,} windows, {empty:.1%} empty"
        )

    def __len__(self) -> int:
        return len(self._windows)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        shape = len(indices), self.length
        batch: Batch = {name: np.zeros(shape, np.int32) for name in ("tokens", "targets", "segments", "places")}
        for row, window in enumerate(np.asarray(indices)):
            at = 0
            for number, piece in enumerate(self._windows[window], 1):
                first, n = int(self._first[piece]), int(self._size[piece])
                here = row, slice(at, at + n)
                batch["tokens"][here] = self._tokens[first : first + n]
                batch["targets"][here] = self._tokens[first + 1 : first + n + 1]
                batch["segments"][here], batch["places"][here] = number, np.arange(n)
                at += n
        return {**batch, "token_mask": (batch["segments"] > 0).astype(np.float32)}


def _best_fit(sizes: np.ndarray, length: int) -> list[list[int]]:
    """Pieces of 1..length, the longest first, each into the fullest window that has room: the pieces of each window."""
    windows: list[list[int]] = []
    room: list[list[int]] = [[] for _ in range(length + 1)]  # windows by what is left in them
    some = 0  # bit r: there is a window with r left
    for piece in np.argsort(-sizes, kind="stable").tolist():
        n = int(sizes[piece])
        if fitting := some >> n:
            left = n + (fitting & -fitting).bit_length() - 1
            window = room[left].pop()
            if not room[left]:
                some ^= 1 << left
        else:
            left, window = length, len(windows)
            windows.append([])
        windows[window].append(piece)
        if left > n:
            room[left - n].append(window)
            some |= 1 << (left - n)
    return windows
