"""Questions and passages as padded rows of tokens, and the mapping from tokens back to the passage's characters.

A text is split into words: runs of letters and digits, and every other character except white space by itself. Chinese has
no spaces, and a run is a clause: the tokenizers jieba and char split it into their words and characters. An answer is
the span of all words that it overlaps; few answers cut a word. Two layouts:

    Apart    question and passage as two arrays, an id for each word and for each of its characters (BiDAF)
    Joined   [CLS] question [SEP] passage [SEP], words in the pieces of a tokenizer (BERT)

In both a span is its first and last position on the axis of the logits; position 0 means that there is no answer.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from research.data import codecs
from research.data.text.questions import Questions
from research.data.tokenizers import Tokenizer, special_ids
from research.data.tokenizers.chinese import Jieba
from research.data.tokenizers.plain import Char
from research.util.errors import UserError

WORD = re.compile(r"\w+|[^\w\s]")
SPECIAL = ("cls", "sep", "pad")  # of `Joined`
Split = Callable[[str], list[str]]


class Tokens(NamedTuple):
    """A text's tokens: `numbers` i32[n], and the characters [start, stop) of each, `spans` i32[n, 2]."""

    numbers: np.ndarray
    spans: np.ndarray


def _whole(run: str) -> list[str]:
    return [run]


def words(text: str, split: Split = _whole) -> tuple[list[str], np.ndarray]:
    """A text's words, and the characters [start, stop) of each, i32[n, 2]. `split` splits a run that `WORD` finds further.

    >>> texts, spans = words("It's 5 m.")
    >>> texts, spans[3].tolist()
    (['It', "'", 's', '5', 'm', '.'], [5, 6])
    """
    texts: list[str] = []
    spans: list[tuple[int, int]] = []
    for run in WORD.finditer(text):
        start = run.start()
        for part in split(run[0]):
            texts.append(part)
            spans.append((start, start := start + len(part)))
    return texts, np.array(spans, np.int32).reshape(-1, 2)


def _split_of(tokenizer: Tokenizer) -> Split:
    return tokenizer.split if isinstance(tokenizer, Jieba | Char) else _whole


def touched(spans: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """The first and the last token that overlap the characters start..stop-1. Raises ValueError if none does.

    >>> touched(np.array([[0, 2], [3, 5], [6, 9]]), start=4, stop=8)
    (1, 2)
    """
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], stop, side="left")) - 1
    if last < first:
        raise ValueError(f"no token at the characters {start} to {stop}")
    return first, last


class Layout(Protocol):
    """How a question and a window of a passage become a row.

    inputs     the arrays of a row, {name: (shape, dtype)}, "b" for the batch axis
    length     the longest passage (Apart) or row (Joined), in tokens: T
    """

    inputs: dict[str, tuple]
    tokenizer: Tokenizer
    length: int

    def tokens(self, text: str) -> Tokens: ...

    def room(self, question: np.ndarray) -> int:
        """The most tokens of a passage in a row with this question."""

    def first(self, question: np.ndarray) -> int:
        """The position of the window's first token on the axis of the logits."""

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Token numbers of n questions and their windows -> `inputs`, with n rows."""
        ...


@codecs.register("apart")
class Apart:
    """{"question": i32[n, Q], "question_chars": i32[n, Q, W], "passage": i32[n, T], "passage_chars": i32[n, T, W]}.

    Padding is 0. Of a word the first W characters are used; 1 is a character not in `alphabet`. The tokenizer has one token
    per word, and pads with 0. `Tokens.numbers` count distinct words as they occur; `rows` maps them to ids.
    """

    def __init__(self, tokenizer: Tokenizer, alphabet: str, length: int, question_length: int, word_length: int):
        for key, value in {"length": length, "question_length": question_length, "word_length": word_length}.items():
            if value < 1:
                raise UserError(f"data.{key} = {value}: at least 1")
        self.length, self.question_length, self.word_length = length, question_length, word_length
        sizes = {"question": question_length, "passage": length}
        self.inputs: dict[str, tuple] = {name: (("b", size), "int32") for name, size in sizes.items()}
        self.inputs |= {f"{name}_chars": (("b", size, word_length), "int32") for name, size in sizes.items()}
        self.tokenizer, self.alphabet, self._split = tokenizer, alphabet, _split_of(tokenizer)
        self._letters = {c: i for i, c in enumerate(alphabet, 2)}
        self.num_chars = len(alphabet) + 2  # with padding and unknown
        self._numbers: dict[str, int] = {}
        self._ids = np.zeros(1 << 10, np.int32)
        self._chars = np.zeros((1 << 10, word_length), np.int32)

    def tokens(self, text: str) -> Tokens:
        texts, spans = words(text, self._split)
        return Tokens(np.array([self._number(word) for word in texts], np.int32), spans)

    def _number(self, word: str) -> int:
        if (number := self._numbers.get(word)) is not None:
            return number
        number = len(self._numbers) + 1
        if number == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._chars = np.concatenate([self._chars, np.zeros_like(self._chars)])
        self._ids[number] = self.tokenizer.encode(word)[0]
        letters = [self._letters.get(c, 1) for c in word[: self.word_length]]
        self._chars[number, : len(letters)] = letters
        self._numbers[word] = number
        return number

    def room(self, question: np.ndarray) -> int:
        return self.length

    def first(self, question: np.ndarray) -> int:
        return 1

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        question = filled(questions, self.question_length)
        passage = filled(windows, self.length)
        return {
            "question": self._ids[question],
            "question_chars": self._chars[question],
            "passage": self._ids[passage],
            "passage_chars": self._chars[passage],
        }


@codecs.register("joined")
class Joined:
    """{"tokens", "token_type_ids": i32[n, T], "token_mask": f32[n, T]}: segment 0 to the first [SEP], 1 to the second."""

    def __init__(self, tokenizer: Tokenizer, length: int, question_length: int):
        self._cls, self._sep, self._pad = special_ids(tokenizer, SPECIAL)
        if question_length < 1 or length < question_length + 4:
            raise UserError(
                f"data.length = {length} has no room for a passage beside data.question_length = {question_length}"
            )
        self.length, self.question_length = length, question_length
        types = {"tokens": "int32", "token_type_ids": "int32", "token_mask": "float32"}
        self.inputs = {name: (("b", length), kind) for name, kind in types.items()}
        self.tokenizer, self._split, self._cache = tokenizer, _split_of(tokenizer), dict[str, np.ndarray]()

    def tokens(self, text: str) -> Tokens:
        """Every piece of a word has the span of the word."""
        texts, spans = words(text, self._split)
        parts = [self._pieces(word) for word in texts]
        counts = [len(part) for part in parts]
        return Tokens(np.concatenate(parts or [np.zeros(0, np.int32)]), np.repeat(spans, counts, axis=0))

    def _pieces(self, word: str) -> np.ndarray:
        if word not in self._cache:
            self._cache[word] = self.tokenizer.encode(word)
        return self._cache[word]

    def room(self, question: np.ndarray) -> int:
        return self.length - 3 - len(question[: self.question_length])

    def first(self, question: np.ndarray) -> int:
        return 2 + len(question[: self.question_length])

    def rows(self, questions: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        cls, sep = [self._cls], [self._sep]
        questions = [question[: self.question_length] for question in questions]
        tokens = [np.concatenate([cls, q, sep, w, sep]) for q, w in zip(questions, windows, strict=True)]
        segments = [np.arange(len(row)) >= len(q) + 2 for row, q in zip(tokens, questions, strict=True)]
        return {
            "tokens": filled(tokens, self.length, self._pad),
            "token_type_ids": filled(segments, self.length),
            "token_mask": filled([np.ones(len(row)) for row in tokens], self.length).astype(np.float32),
        }


def filled(rows: Sequence[np.ndarray], length: int, pad: int = 0) -> np.ndarray:
    """Rows cut or padded to `length`: i32[n, length].

    >>> filled([np.array([1, 2, 3]), np.array([4])], length=2).tolist()
    [[1, 2], [4, 0]]
    """
    out = np.full((len(rows), length), pad, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row[:length]
    return out


def alphabet(texts: Iterable[str], least: int = 1) -> str:
    """The characters that occur at least `least` times in `texts`, except white space, sorted by code point."""
    counts: dict[str, int] = {}
    for text in texts:
        for c in text:
            counts[c] = counts.get(c, 0) + 1
    return "".join(sorted(c for c, n in counts.items() if n >= least and not c.isspace()))


class Windows:
    """Questions with windows of their passages: a random-access source of the layout's inputs and "start", "end": i32[n].

    A passage longer than its room is split into windows that begin `stride` tokens apart; the last ends with the passage.
    start and end are the positions of the first answer that is entirely in the window, and 0 if none is. With `answered`
    windows without an answer are left out; `unanswered` counts them.

    A fraction `negatives` of the rows, drawn anew each epoch, has another passage and no answer: one of the same document
    if possible, in which no answer occurs. A pure function of (seed, epoch, row).
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
        """(question, the window's first token, start, end) of each window of question i."""
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
        questions, windows, positions = [], [], []
        for row in np.asarray(indices):
            i, begin = int(self.question_index[row]), int(self._begin[row])
            passage, span = self.data.passage_index[i], (self._start[row], self._end[row])
            if self._negatives and (negative := self._negative(int(row), i, epoch)) is not None:
                passage, begin, span = negative, 0, (0, 0)
            question = self._questions[i]
            questions.append(question)
            windows.append(self._passages[passage].numbers[begin : begin + self._layout.room(question)])
            positions.append(span)
        start, end = np.array(positions, np.int32).reshape(-1, 2).T
        return {**self._layout.rows(questions, windows), "start": start, "end": end}

    def _negative(self, row: int, i: int, epoch: int) -> int | None:
        """The passage that replaces this row's own; None if it is not replaced."""
        # The tag 2: a random stream apart from the permutation's (seed, epoch).
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
        """A span of positions on the logits' axis -> characters [start, stop) of the row's own passage."""
        i = int(self.question_index[row])
        shift = int(self._begin[row]) - self._layout.first(self._questions[i])
        spans = self._passages[self.data.passage_index[i]].spans
        return int(spans[start + shift, 0]), int(spans[end + shift, 1])


def begins(length: int, room: int, stride: int) -> list[int]:
    """The first tokens of windows of `room` tokens, `stride` apart, that cover `length` tokens; the last ends with them.

    >>> begins(length=10, room=4, stride=3)
    [0, 3, 6]
    """
    return [0] if length <= room else [*range(0, length - room, stride), length - room]


def vocabulary_text(data: Questions) -> str:
    """The words of all passages and questions, separated by spaces: the text that a tokenizer is trained on."""
    return " ".join(word for text in [*data.passages, *data.questions] for word in WORD.findall(text))
