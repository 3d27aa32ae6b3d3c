"""One text read by B rows side by side: batch k's row r goes on where batch k - 1's row r ended."""

import numpy as np

from research.util.errors import UserError


class Rows:
    """A text cut into `rows` parts of one length, each read in windows of `length` tokens, as a random-access source.

    Example k * rows + r is window k of part r, so that batches of `rows` examples, in order, are what a model needs that
    carries its state from one to the next (Zaremba et al. 2014). `{"tokens", "targets": i32[n, length], "starts":
    bool[n]}`: `starts` is true where a part begins, and a state with it.

    For training, whole windows alone: what is left at the end of each part is not read. With `every`, for evaluation:
    every token but the text's first is a target exactly once; the last windows are filled up, and `"token_mask"` f32[n,
    length] tells the targets that count.
    """

    def __init__(
        self, tokens: np.ndarray, length: int, rows: int, *, every: bool = False, key: str = "data.batch_size"
    ):
        if rows < 1 or length < 1:
            raise UserError(f"data.length = {length}, {key} = {rows}: at least 1 each")
        self.tokens, self.length, self.rows, self.every = tokens, length, rows, every
        targets = len(tokens) - 1
        self.part = -(-targets // rows) if every else targets // rows  # targets a part
        self.windows = -(-self.part // length) if every else self.part // length
        if self.windows < 1:
            raise UserError(
                f"{key} = {rows} parts with a window of data.length = {length} tokens each need a text of "
                f"{rows * length + 1:,} tokens, this one has {len(tokens):,}; lower one of them or add text"
            )

    def __len__(self) -> int:
        return self.windows * self.rows

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        window, row = np.divmod(np.asarray(indices, np.int64), self.rows)
        inside = window[:, None] * self.length + np.arange(self.length + 1)  # places in the part
        places = row[:, None] * self.part + inside
        found = self.tokens[np.minimum(places, len(self.tokens) - 1)].astype(np.int32)
        batch = {"tokens": found[:, :-1], "targets": found[:, 1:], "starts": window == 0}
        if self.every:
            real = (inside[:, 1:] <= self.part) & (places[:, 1:] < len(self.tokens))
            batch["token_mask"] = real.astype(np.float32)
        return batch
