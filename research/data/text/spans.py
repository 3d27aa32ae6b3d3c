"""Questions and passages as rows of tokens of one length, with the way back from tokens to the passage's characters.

A text is parted into words, runs of letters and digits, and every other sign but white space a word of its own. An answer
is the words that it touches: all of them whole, but for the few answers that cut a word. Two layouts:

    Apart    the question beside the passage, a number a word and the numbers of its characters (BiDAF)
    Joined   [CLS] question [SEP] passage [SEP], words in the pieces of a tokenizer (BERT)

In both a span is told by its first and its last place on the axis of the logits, and place 0 says that there is no answer.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from research.data.text.questions import Questions
from research.data.tokenizers import Tokenizer
from research.util.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")


class Tokens(NamedTuple):
    """A text's tokens: their numbers i32[n], and the characters that each stands for, i32[n, 2], first and one past."""

    numbers: np.ndarray
    spans: np.ndarray


def words(text: str) -> tuple[list[str], np.ndarray]:
    """A text's words, and their characters i32[n, 2]."""
    matches = list(WORD.finditer(text))
    return [m[0] for m in matches], np.array([m.span() for m in matches], np.int32).reshape(-1, 2)


def touched(spans: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """The first and the last token that share a character with start..stop-1. Raises ValueError if none does."""
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], stop, side="left")) - 1
    if last < first:
        raise ValueError(f"no token at the characters {start} to {stop}")
    return first, last


class Layout(Protocol):
    """How a question and a window of a passage become a row.

    inputs     what a row holds, {name: (shape, dtype)}, with the batch as "b"
    length     the longest passage (Apart) or row (Joined), in tokens: T
    """

    inputs: dict[str, tuple]
    tokenizer: Tokenizer
    length: int

    def tokens(self, text: str) -> Tokens: ...

    def room(self, question: np.ndarray) -> int:
        """The most tokens of a passage beside this question."""

    def first(self, question: np.ndarray) -> int:
        """The place of the window's first token on the axis of the logits."""

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The numbers of `Tokens`, those of a question and a window each -> `inputs`, with n rows."""
        ...


class Apart:
    """{"question": i32[n, Q], "question_chars": i32[n, Q, W], "passage": i32[n, T], "passage_chars": i32[n, T, W]}.

    0 pads; a word's first W characters count, and 1 is a character that `alphabet` lacks. The tokenizer has one token a
    word and pads with 0. Tokens are numbered as they are met: `rows` looks them up.
    """

    def __init__(self, tokenizer: Tokenizer, alphabet: str, length: int, question_length: int, word_length: int):
        for key, value in {"length": length, "question_length": question_length, "word_length": word_length}.items():
            if value < 1:
                raise UserError(f"data.{key} = {value}: at least 1")
        self.length, self._question_length, self._word_length = length, question_length, word_length
        sizes = {"question": question_length, "passage": length}
        self.inputs: dict[str, tuple] = {name: (("b", size), "int32") for name, size in sizes.items()}
        self.inputs |= {f"{name}_chars": (("b", size, word_length), "int32") for name, size in sizes.items()}
        self.tokenizer, self._alphabet = tokenizer, {c: i for i, c in enumerate(alphabet, 2)}
        self.num_chars = len(alphabet) + 2  # with padding and the unknown
        self._numbers: dict[str, int] = {}
        self._ids = np.zeros(1 << 10, np.int32)
        self._chars = np.zeros((1 << 10, word_length), np.int32)

    def tokens(self, text: str) -> Tokens:
        texts, spans = words(text)
        return Tokens(np.array([self._number(word) for word in texts], np.int32), spans)

    def _number(self, word: str) -> int:
        if (known := self._numbers.get(word)) is not None:
            return known
        number = len(self._numbers) + 1
        if number == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._chars = np.concatenate([self._chars, np.zeros_like(self._chars)])
        self._ids[number] = self.tokenizer.encode(word)[0]
        letters = [self._alphabet.get(c, 1) for c in word[: self._word_length]]
        self._chars[number, : len(letters)] = letters
        self._numbers[word] = number
        return number

    def room(self, question: np.ndarray) -> int:
        return self.length

    def first(self, question: np.ndarray) -> int:
        return 1

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        question = filled(questions, self._question_length)
        passage = filled(windows, self.length)
        return {
            "question": self._ids[question],
            "question_chars": self._chars[question],
            "passage": self._ids[passage],
            "passage_chars": self._chars[passage],
        }


class Joined:
    """{"tokens", "segments": i32[n, T], "token_mask": f32[n, T]}: segment 0 to the first [SEP], 1 to the second."""

    def __init__(self, tokenizer: Tokenizer, length: int, question_length: int):
        if lacks := [name for name in ("cls", "sep", "pad") if name not in tokenizer.special]:
            raise UserError(f"the tokenizer has no {lacks[0]!r} token to part question and passage with")
        if question_length < 1 or length < question_length + 4:
            raise UserError(
                f"data.length = {length} has no room for a passage beside data.question_length = {question_length}"
            )
        self.length, self._question_length = length, question_length
        types = {"tokens": "int32", "segments": "int32", "token_mask": "float32"}
        self.inputs = {name: (("b", length), kind) for name, kind in types.items()}
        self.tokenizer, self._known = tokenizer, dict[str, np.ndarray]()

    def tokens(self, text: str) -> Tokens:
        """Every piece of a word stands for the characters of the word."""
        texts, spans = words(text)
        parts = [self._pieces(word) for word in texts]
        counts = [len(part) for part in parts]
        return Tokens(np.concatenate(parts or [np.zeros(0, np.int32)]), np.repeat(spans, counts, axis=0))

    def _pieces(self, word: str) -> np.ndarray:
        if word not in self._known:
            self._known[word] = self.tokenizer.encode(word)
        return self._known[word]

    def room(self, question: np.ndarray) -> int:
        return self.length - 3 - len(question[: self._question_length])

    def first(self, question: np.ndarray) -> int:
        return 2 + len(question[: self._question_length])

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        cls, sep = ([self.tokenizer.special[name]] for name in ("cls", "sep"))
        questions = [question[: self._question_length] for question in questions]
        whole = [np.concatenate([cls, q, sep, w, sep]) for q, w in zip(questions, windows, strict=True)]
        after = [np.arange(len(row)) >= len(q) + 2 for row, q in zip(whole, questions, strict=True)]
        return {
            "tokens": filled(whole, self.length, self.tokenizer.special["pad"]),
            "segments": filled(after, self.length),
            "token_mask": filled([np.ones(len(row)) for row in whole], self.length).astype(np.float32),
        }


def filled(rows: Sequence[np.ndarray], length: int, pad: int = 0) -> np.ndarray:
    """Rows cut or filled up to `length`: i32[n, length]."""
    out = np.full((len(rows), length), pad, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row[:length]
    return out


def alphabet(texts: Iterable[str], least: int = 1) -> str:
    """The characters that `texts` hold at least `least` times, in order of their code points."""
    counts: dict[str, int] = {}
    for text in texts:
        for c in text:
            counts[c] = counts.get(c, 0) + 1
    return "".join(sorted(c for c, n in counts.items() if n >= least and not c.isspace()))


class Windows:
    """Questions beside windows of their passages, as a random-access source of {..., "start", "end": i32[n]}.

    A passage longer than its room is read in windows that begin `stride` tokens apart, the last ending with it. start and
    end are the places of the first answer that lies in the window whole, and 0 where none does. With `answered` such
    windows are left out; `unanswered` counts them.

    `negatives` of the rows, chosen anew each epoch, show in place of their passage another one, of the same document where
    it has one in which no answer is read, and there is no answer: a pure function of (seed, epoch, row).
    """

    def __init__(
        self,
        data: Questions,
        layout: Layout,
        stride: int,
        *,
        answered: bool = False,
        negatives: float = 0.0,
        seed: int = 0,
    ):
        if stride < 1:
            raise UserError(f"data.stride = {stride}: at least 1")
        if not 0 <= negatives < 1:
            raise UserError(f"data.negatives = {negatives}: at least 0 and below 1")
        self.data, self._layout, self._negatives, self._seed = data, layout, negatives, seed
        self._passages = [layout.tokens(text) for text in data.passages]
        self._questions = [layout.tokens(text).numbers for text in data.questions]
        self._relatives: dict[str, list[int]] = {}
        for i, title in enumerate(data.titles):
            self._relatives.setdefault(title, []).append(i)
        rows, self.unanswered = [], 0
        for i in range(len(data)):
            for row in self._windows(i, stride):
                self.unanswered += row[-1] == 0
                if row[-1] or not answered:
                    rows.append(row)
        self.question_index, self._begin, self._start, self._end = np.array(rows, np.int32).reshape(-1, 4).T

    def __len__(self) -> int:
        return len(self.question_index)

    def _windows(self, i: int, stride: int) -> Iterable[tuple[int, int, int, int]]:
        """(question, the window's first token, start, end) of each of its windows."""
        passage, question = self._passages[self.data.passage_index[i]], self._questions[i]
        room, first = self._layout.room(question), self._layout.first(question)
        if stride > room:
            raise UserError(f"data.stride = {stride} passes over tokens: a window has room for {room} of the passage")
        try:
            spans = [touched(passage.spans, start, start + len(text)) for text, start in self.data.answers[i]]
        except ValueError as e:
            raise UserError(f"question {self.data.ids[i]!r}: {e} of its answer") from None
        for begin in begins(len(passage.numbers), room, stride):
            inside = [(a, b) for a, b in spans if begin <= a and b < begin + room]
            a, b = (x - begin + first for x in inside[0]) if inside else (0, 0)
            yield i, begin, a, b

    def gather(self, indices: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        questions, windows, places = [], [], []
        for row in np.asarray(indices):
            i, begin = int(self.question_index[row]), int(self._begin[row])
            passage, place = self.data.passage_index[i], (self._start[row], self._end[row])
            if self._negatives and (other := self._other(int(row), i, epoch)) is not None:
                passage, begin, place = other, 0, (0, 0)
            question = self._questions[i]
            questions.append(question)
            windows.append(self._passages[passage].numbers[begin : begin + self._layout.room(question)])
            places.append(place)
        start, end = np.array(places, np.int32).reshape(-1, 2).T
        return {**self._layout.rows(questions, windows), "start": start, "end": end}

    def _other(self, row: int, i: int, epoch: int) -> int | None:
        """The passage that this row shows in place of its own; None where it keeps that."""
        # The tag keeps it apart from the permutation, which is drawn from (seed, epoch).
        rng = np.random.default_rng((self._seed, epoch, 2, row))
        if rng.random() >= self._negatives:
            return None
        own = self.data.passage_index[i]
        for pool in (self._relatives[self.data.titles[own]], range(len(self._passages))):
            for other in rng.choice(np.asarray(pool), 4):
                text = self.data.passages[other].lower()
                if other != own and not any(answer.lower() in text for answer, _ in self.data.answers[i]):
                    return int(other)
        return None

    def characters(self, row: int, start: int, end: int) -> tuple[int, int]:
        """A span of the logits' places in a row -> the characters of the row's own passage: first, and one past."""
        i = int(self.question_index[row])
        shift = int(self._begin[row]) - self._layout.first(self._questions[i])
        spans = self._passages[self.data.passage_index[i]].spans
        return int(spans[start + shift, 0]), int(spans[end + shift, 1])


def begins(length: int, room: int, stride: int) -> list[int]:
    """First tokens of the windows of `room` that cover `length` tokens, `stride` apart, the last as far as needed."""
    return [0] if length <= room else [*range(0, length - room, stride), length - room]


def vocabulary_text(data: Questions) -> str:
    """The words of passages and questions, parted by spaces: what a vocabulary is learnt from."""
    return " ".join(word for text in [*data.passages, *data.questions] for word in WORD.findall(text))
