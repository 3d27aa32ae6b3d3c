import numpy as np
import pytest

from research.generation.text_stream import stop_sequences, stream_text
from research.util.errors import UserError


class Pieces:
    """A tokenizer of the pieces that a list names; the first unknown character is an error, or with `lower` all is lowered."""

    def __init__(self, *pieces, lower=False):
        self.pieces, self.lower = pieces, lower

    def encode(self, text):
        ids, text = [], text.lower() if self.lower else text
        while text:
            piece = max((p for p in self.pieces if text.startswith(p)), key=len, default=None)
            if piece is None:
                raise UserError(f"character {text[0]!r} is not in the vocabulary")
            ids.append(self.pieces.index(piece))
            text = text[len(piece) :]
        return np.array(ids, np.int32)

    def decode(self, ids):
        return "".join(self.pieces[i] for i in ids)


def streamed(pieces, stop, prompt="", tokenizer=None):
    """What is printed as each of the pieces comes."""
    tokenizer = tokenizer or Pieces(*dict.fromkeys([*pieces, *prompt]))
    columns = iter([np.array([tokenizer.pieces.index(piece)]) for piece in pieces])
    return list(stream_text(tokenizer, prompt, tokenizer.encode(prompt), columns, stop))


@pytest.mark.parametrize(
    ("pieces", "stop", "said"),
    [
        (["a", "EN", "D", "b"], ["END"], ["", "a", "", ""]),  # the first of a stop waits until it is whole
        (["a", "EN", "T", "b"], ["END"], ["", "a", "", "ENT", "b", ""]),  # and is printed where it is none
        (["a", "xEN", "DD"], ["END"], ["", "a", "x", ""]),
        (["a\n", "\nb"], ["\n\n"], ["", "a", ""]),
        (["a", "\n", "b"], ["\n\n"], ["", "a", "", "\nb", ""]),
        (["a", "EN"], ["END"], ["", "a", "", "EN"]),  # it ends there, so that it was none
        (["<|im", "_", "end", "|>", "x"], ["<|im_end|>"], ["", "", "", "", ""]),
        (["a", "a", "b", "a"], ["aab"], ["", "", "", ""]),
        (["a", "a", "a", "b"], ["aab"], ["", "", "", "a", ""]),
        (["a", "b", "c"], ["bcd", "c"], ["", "a", "", "b"]),  # of two stops the one that is whole
        (["a", "b"], [], ["", "a", "b", ""]),
    ],
)
def test_nothing_of_a_stop_is_printed(pieces, stop, said):
    assert streamed(pieces, stop) == said


def test_a_stop_is_looked_for_in_the_new_text_alone():
    assert "".join(streamed(["D", "x", "E"], ["END"], prompt="EN")) == "ENDxE"


def test_a_stop_between_random_pieces_is_where_the_text_says():
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(rng.choice(list("ab"), size=20))
        cuts = [0, *sorted(rng.choice(19, size=6, replace=False) + 1), 20]
        pieces = [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        stop = ["".join(rng.choice(list("ab"), size=n)) for n in rng.integers(2, 6, size=2)]
        ends = [at for s in stop if (at := text.find(s)) >= 0]
        printed = streamed(pieces, stop)
        assert (
            "".join(printed) == text[: min(ends, default=20)] or len(ends) == 2
        )  # of two, the one that is whole first
        assert not any(s in "".join(printed) for s in stop)


def test_tokens_of_another_text_are_no_stop():
    assert [s.tolist() for s in stop_sequences(Pieces("a", "b"), ["ab", "é", "b"])] == [[0, 1], [1]]
    assert stop_sequences(Pieces("e", "n", lower=True), ["EN"]) == []
