"""Byte-pair encoding with published merges, as in subword-nmt (Sennrich et al. 2016, 1508.07909): `@@ ` splits a word."""

import functools
from collections.abc import Mapping

from research.util.errors import UserError

MARK = "@@"
_END = "</w>"  # joined to a word's last character


class Merges:
    """`text` has a version line and then one pair per line, by priority. Raises UserError for another form.

    >>> Merges("#version: 0.2\\nl o\\nlo w</w>\\n").split("low lot")
    'low lo@@ t'
    """

    def __init__(self, text: str):
        version, _, lines = text.partition("\n")
        if not version.startswith("#version: 0.2"):
            raise UserError(f"byte-pair merges begin with '#version: 0.2', not {version[:40]!r}")
        pairs = [tuple(line.split()) for line in lines.splitlines() if line.strip()]
        if bad := next((i for i, pair in enumerate(pairs, 2) if len(pair) != 2), None):
            raise UserError(f"byte-pair merges, line {bad}: want two pieces")
        self._ranks: Mapping[tuple[str, ...], int] = {pair: i for i, pair in reversed(list(enumerate(pairs)))}
        self._word = functools.lru_cache(maxsize=1 << 16)(self._split)

    def split(self, text: str) -> str:
        """Words -> pieces, each but the last of a word followed by `@@`."""
        return " ".join(f"{MARK} ".join(self._word(word)) for word in text.split())

    def _split(self, word: str) -> tuple[str, ...]:
        pieces = [*word[:-1], word[-1] + _END]
        while len(pieces) > 1:
            rank, pair = min(
                (self._ranks.get(pair, len(self._ranks)), pair) for pair in zip(pieces, pieces[1:], strict=False)
            )
            if rank == len(self._ranks):
                break
            pieces = _merged(pieces, pair)
        return (*pieces[:-1], pieces[-1].removesuffix(_END))


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def join(pieces: str) -> str:
    """Pieces -> words; a mark at the end of the text is removed.

    >>> join("low lo@@ t")
    'low lot'
    """
    return pieces.replace(f"{MARK} ", "").removesuffix(MARK)
