"""One text read in B parallel rows: row r of batch k continues where row r of batch k - 1 ended."""

import numpy as np

from research.util.errors import UserError


class Rows:
    """A text cut into `rows` parts of equal length, each read in windows of `length` tokens, as a random-access source.

    Example k * rows + r is window k of part r, so that a model can carry its state between consecutive batches of `rows`
    examples (truncated BPTT; Zaremba et al. 2014). `{"tokens", "targets": i32[n, length], "starts": bool[n]}`: `starts` is
    true in the first window of a part, where the state is reset.

    For training, full windows only: the tokens left over at the end of each part are not read. With `every`, for
    evaluation, every token but the text's first is a target exactly once; the last windows are padded, and `"token_mask"`
    f32[n, length] is 0 there. Raises UserError if the text is too short; `key` names the rows in its message.

    >>> Rows(np.arange(9), length=2, rows=2).gather(np.arange(4))["tokens"].tolist()
    [[0, 1], [4, 5], [2, 3], [6, 7]]
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
        inside = window[:, None] * self.length + np.arange(self.length + 1)  # positions in the part
        positions = row[:, None] * self.part + inside
        windows = self.tokens[np.minimum(positions, len(self.tokens) - 1)].astype(np.int32)
        batch = {"tokens": windows[:, :-1], "targets": windows[:, 1:], "starts": window == 0}
        if self.every:
            real = (inside[:, 1:] <= self.part) & (positions[:, 1:] < len(self.tokens))
            batch["token_mask"] = real.astype(np.float32)
        return batch
