"""Denoising: a text is to be restored from one with its sentences shuffled and spans of its tokens masked.

Source: Lewis et al. 2019 (BART, 1910.13461), section 2.2: sentence permutation, and text infilling, which replaces a span by a
single mask, its length from a Poisson of mean 3, until `share` of the tokens are gone. Spans of length 0, which would only
insert a mask, are drawn again.
"""

from collections.abc import Sequence

import numpy as np

from research.data.buckets import Ragged
from research.data.pipeline import Batch
from research.data.tokenizers import Tokenizer, special_ids
from research.util.errors import UserError

SPAN = 3.0  # mean tokens of a span
_TAG = 5  # a random stream apart from the others of (seed, epoch)


class Denoised:
    """A `RaggedSource` whose `source` is its `targets`, corrupted anew each epoch: a pure function of (seed, epoch, index).

    pairs  {"source", "tokens", "targets"} of the texts, each ending in `eos`, which stays the last token
    """

    def __init__(self, pairs: Ragged, tokenizer: Tokenizer, share: float, seed: int):
        if not (isinstance(share, float) and 0 < share < 1):
            raise UserError(f"data.denoise = {share!r}: the share of the tokens to mask, above 0 and below 1")
        self._pairs, self._share, self._seed, self.lengths = pairs, share, seed, pairs.lengths
        (self._mask,), self._ends = special_ids(tokenizer, ("mask",)), sentence_ends(tokenizer)

    def __len__(self) -> int:
        return len(self._pairs)

    def gather(self, indices: np.ndarray, epoch: int = 0, length: int | None = None) -> Batch:
        batch = self._pairs.gather(indices, epoch, length)
        source, mask = np.zeros_like(batch["source"]), np.zeros_like(batch["source_mask"])
        for row, (index, tokens) in enumerate(zip(indices, batch["targets"], strict=True)):
            text = tokens[batch["targets_mask"][row] == 1]
            rng = np.random.default_rng((self._seed, epoch, _TAG, int(index)))
            made = infilled(permuted(text[:-1], self._ends, rng), self._mask, self._share, rng)
            source[row, : len(made) + 1] = [*made, text[-1]]
            mask[row, : len(made) + 1] = 1
        return {**batch, "source": source, "source_mask": mask}


def sentence_ends(tokenizer: Tokenizer) -> np.ndarray:
    """The ids of tokens that end a sentence: those whose text ends in a full stop, an exclamation or a question mark."""
    ids = [i for i in range(tokenizer.size) if tokenizer.decode(np.array([i])).endswith((".", "!", "?"))]
    return np.array(ids, np.int32)


def permuted(tokens: np.ndarray, ends: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tokens i32[n] with their sentences in random order."""
    sentences = np.split(tokens, np.flatnonzero(np.isin(tokens[:-1], ends)) + 1)
    return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


def infilled(tokens: np.ndarray, mask: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Tokens i32[n] with spans that do not touch, round(share n) tokens in all, each replaced by one `mask`."""
    wanted = round(share * len(tokens))
    spans: list[int] = []
    while (left := wanted - sum(spans)) > 0:
        if size := int(rng.poisson(SPAN)):
            spans.append(min(size, left))
    kept = len(tokens) - wanted
    if len(spans) > kept + 1:  # a token at least between any two
        spans = [wanted]
    gaps = np.sort(rng.choice(kept + 1, len(spans), replace=False))  # the number of tokens kept before each span
    parts, start = [], 0
    for span, before in zip(spans, np.diff(gaps, prepend=0), strict=True):
        parts += [tokens[start : start + before], [mask]]
        start += before + span
    return np.concatenate([*parts, tokens[start:]]).astype(np.int32)
