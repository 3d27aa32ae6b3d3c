"""Several documents packed into each window, with segment numbers that keep attention within a document.

The packing is computed once, from the documents' lengths: best fit decreasing (Johnson 1973). The windows are then
shuffled by `pipeline.TrainBatches`.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from research.data.pipeline import Batch
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError


def encode(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Each document's tokens i32[n], with the tokenizer's `bos` before and `eos` after if it has them."""
    first, last = (np.array([tokenizer.special[k]] if k in tokenizer.special else [], np.int32) for k in ("bos", "eos"))
    for text in texts:
        yield np.concatenate([first, tokenizer.encode(text), last])


class Packed:
    """Windows of `length` tokens T, as a random-access source. A document of n tokens has n - 1 targets.

    A document longer than a window is cut into pieces of T targets, each a segment of its own: every token
    except a document's first is a target exactly once. `{"tokens", "targets": i32[n, T]; "segment_ids": i32[n, T],
    1, 2, ... and 0 in the padding; "position_ids": i32[n, T], positions from 0 in every segment; "token_mask":
    f32[n, T], 0 in the padding}`. With `masks`, f32[n] of each document, "token_mask" is that of the target. Raises UserError
    if no document has two tokens.

    >>> batch = Packed([np.array([5, 6, 7]), np.array([8, 9])], length=3).gather(np.array([0]))
    >>> [batch[name][0].tolist() for name in ("tokens", "targets", "segment_ids")]
    [[5, 6, 8], [6, 7, 9], [1, 1, 2]]
    """

    def __init__(self, documents: Iterable[np.ndarray], length: int, masks: Iterable[np.ndarray] | None = None):
        if length < 1:
            raise UserError(f"data.length = {length}: at least 1")
        rows = [np.asarray(document, np.int32) for document in documents]
        sizes = np.array([len(row) for row in rows], np.int64)
        self.length, self._tokens = length, np.concatenate([np.zeros(0, np.int32), *rows])
        self._mask = None if masks is None else np.concatenate([np.zeros(0, np.float32), *masks]).astype(np.float32)
        starts = [s + np.arange(0, max(n - 1, 0), length) for s, n in zip(np.cumsum(sizes) - sizes, sizes, strict=True)]
        ends = [np.full(len(s), end - 1) for s, end in zip(starts, np.cumsum(sizes), strict=True)]
        first = np.concatenate([np.zeros(0, np.int64), *starts])
        self._first, self._size = first, np.minimum(np.concatenate([first[:0], *ends]) - first, length)  # of pieces
        if not len(first):
            raise UserError("data.packing = True: no document has two tokens")
        self._windows = _best_fit(self._size, length)
        pieces, total = len(first), len(self._windows) * length
        empty = 1 - int(self._size.sum()) / total
        self.report = f"{len(rows):,} documents, {pieces:,} pieces in {len(self._windows):,} windows, {empty:.1%} empty"

    def __len__(self) -> int:
        return len(self._windows)

    def gather(self, indices: np.ndarray, epoch: int = 0) -> Batch:
        shape = len(indices), self.length
        batch: Batch = {
            name: np.zeros(shape, np.int32) for name in ("tokens", "targets", "segment_ids", "position_ids")
        }
        mask = np.zeros(shape, np.float32)
        for row, window in enumerate(np.asarray(indices)):
            at = 0
            for number, piece in enumerate(self._windows[window], 1):
                first, n = int(self._first[piece]), int(self._size[piece])
                span = row, slice(at, at + n)
                batch["tokens"][span] = self._tokens[first : first + n]
                batch["targets"][span] = self._tokens[first + 1 : first + n + 1]
                mask[span] = 1 if self._mask is None else self._mask[first + 1 : first + n + 1]
                batch["segment_ids"][span], batch["position_ids"][span] = number, np.arange(n)
                at += n
        return {**batch, "token_mask": mask}


def _best_fit(sizes: np.ndarray, length: int) -> list[list[int]]:
    """Sizes in 1..length -> the pieces of each window: the longest first, each into the fullest window with room for it."""
    windows: list[list[int]] = []
    room: list[list[int]] = [[] for _ in range(length + 1)]  # windows by their free tokens
    nonempty = 0  # bit r: some window has r free tokens
    for piece in np.argsort(-sizes, kind="stable").tolist():
        n = int(sizes[piece])
        if fitting := nonempty >> n:
            free = n + (fitting & -fitting).bit_length() - 1
            window = room[free].pop()
            if not room[free]:
                nonempty ^= 1 << free
        else:
            free, window = length, len(windows)
            windows.append([])
        windows[window].append(piece)
        if free > n:
            room[free - n].append(window)
            nonempty |= 1 << (free - n)
    return windows
