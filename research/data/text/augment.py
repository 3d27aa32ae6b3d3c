"""Texts that are changed a little each time they are trained on: EDA (Wei and Zou 2019, 1901.11196).

synonyms  some words are each replaced by a neighbour (research/data/text/neighbours.py)
insert    a neighbour of some word is put somewhere, some times
swap      two words change places, some times
delete    each word is left out with a small probability

and, besides EDA,

paraphrase  the text becomes one of its paraphrases in a file (research/data/text/paraphrases.py); one without any stays

"Some" is a share of the text's words, and one at least. What a text becomes is a pure function of (seed, epoch, its index).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from research.util.errors import UserError, nearest

Neighbours = Mapping[str, Sequence[str]]
_TAG = 2  # a random stream apart from the permutation's (seed, epoch)


def _some(words: Sequence[str], share: float) -> int:
    return max(1, int(share * len(words)))


def synonyms(words: list[str], share: float, near: Neighbours, rng: np.random.Generator) -> list[str]:
    places = [i for i, word in enumerate(words) if word in near]
    out = list(words)
    for i in rng.permutation(places)[: _some(words, share)]:
        out[int(i)] = str(rng.choice(near[words[int(i)]]))
    return out


def insert(words: list[str], share: float, near: Neighbours, rng: np.random.Generator) -> list[str]:
    known = [word for word in words if word in near]
    out = list(words)
    for _ in range(_some(words, share) if known else 0):
        new = str(rng.choice(near[known[rng.integers(len(known))]]))
        out.insert(int(rng.integers(len(out) + 1)), new)
    return out


def swap(words: list[str], share: float, near: Neighbours, rng: np.random.Generator) -> list[str]:
    out = list(words)
    for _ in range(_some(words, share)):
        i, j = rng.integers(len(out), size=2)
        out[i], out[j] = out[j], out[i]
    return out


def delete(words: list[str], share: float, near: Neighbours, rng: np.random.Generator) -> list[str]:
    kept = [word for word, drawn in zip(words, rng.random(len(words)), strict=True) if drawn >= share]
    return kept or [words[rng.integers(len(words))]]


OPERATIONS: dict[str, Callable[[list[str], float, Neighbours, np.random.Generator], list[str]]] = {
    function.__name__: function for function in (synonyms, insert, swap, delete)
}
NEED_NEIGHBOURS = ("synonyms", "insert")
PARAPHRASE = "paraphrase"  # of a whole text


def check(names: Sequence[str], share: float) -> None:
    """Raises UserError for an unknown operation, and for a share of words that is not above 0 and below 1."""
    for name in names:
        if name not in (known := [*OPERATIONS, PARAPHRASE]):
            raise UserError(f"data.augment: no operation {name!r}{nearest(name, known)}")
    if not 0 < share < 1:
        raise UserError(f"data.augment_share = {share}: above 0 and below 1")


class Augment:
    """Text -> a text for (epoch, index): changed by one of the operations, or, one time in len(names) + 1, as it is."""

    def __init__(
        self, names: Sequence[str], share: float, near: Neighbours, seed: int, others: Mapping[str, Sequence[str]] = {}
    ):
        """`others` are the paraphrases of each text."""
        check(names, share)
        self._names, self._share, self._near, self._seed, self._others = tuple(names), share, near, seed, others

    def __call__(self, text: str, epoch: int, index: int) -> str:
        rng = np.random.default_rng((self._seed, epoch, index, _TAG))
        choice = int(rng.integers(len(self._names) + 1))
        if choice == len(self._names) or not (words := text.split()):
            return text
        if (name := self._names[choice]) == PARAPHRASE:
            return str(rng.choice(self._others.get(text) or [text]))
        return " ".join(OPERATIONS[name](words, self._share, self._near, rng))
