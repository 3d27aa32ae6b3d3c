"""Rules that label words without learning more than a table from the training texts: the baselines of token labelling."""

import collections
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Words = list[tuple[str, int]]  # of a text: each word and its label
Labeller = Callable[[Sequence[str]], Sequence[int]]  # words -> their labels
Rule = Callable[[Sequence[Words]], Labeller]  # training texts -> what it makes of them
SpanScores = Callable[
    [Sequence[Sequence[str]], Sequence[Sequence[str]]], Mapping[str, float]
]  # true, predicted -> metrics


def most_frequent_class(train: Sequence[Words]) -> Labeller:
    """Always the most frequent label."""
    label = collections.Counter(label for words in train for _, label in words).most_common(1)[0][0]
    return lambda words: [label] * len(words)


def each_words_own(train: Sequence[Words]) -> Labeller:
    """Each word's most frequent label; an unknown word gets the most frequent of all."""
    (other,) = most_frequent_class(train)([""])
    own: dict[str, int] = {}
    for (word, label), _ in collections.Counter(pair for words in train for pair in words).most_common():
        own.setdefault(word, label)
    return lambda words: [own.get(word, other) for word in words]


def longest_match(train: Sequence[Words], classes: Sequence[str]) -> Labeller:
    """Forward maximum matching: from left to right the longest word of the training texts, else one character.

    `classes` are B, M, E and S in any order, the labels of characters.
    """
    number = {name: i for i, name in enumerate(classes)}
    words: set[str] = set()
    for text in train:
        word = ""
        for character, label in text:
            word += character
            if label in (number["E"], number["S"]):
                words.add(word)
                word = ""
    longest = max(map(len, words), default=1)

    def segment(characters: Sequence[str]) -> list[int]:
        out: list[int] = []
        while len(out) < len(characters):
            rest = "".join(characters[len(out) : len(out) + longest])
            size = next((n for n in range(len(rest), 1, -1) if rest[:n] in words), 1)
            names = "S" if size == 1 else f"B{'M' * (size - 2)}E"
            out += [number[name] for name in names]
        return out

    return segment


RULES: dict[str, Rule] = {"most frequent class": most_frequent_class, "each word's own": each_words_own}


def scores(
    texts: Sequence[Words],
    classes: Sequence[str],
    labellers: Mapping[str, Labeller],
    span_scores: SpanScores | None = None,
) -> dict[str, dict[str, float]]:
    """Word-level metrics on `texts`: {"accuracy", "macro_f1": {labeller: value}}, and those of spans."""
    true = [[label for _, label in words] for words in texts]
    out: dict[str, dict[str, float]] = {"accuracy": {}, "macro_f1": {}}
    for name, predict in labellers.items():
        predicted = [list(predict([word for word, _ in words])) for words in texts]
        labels, guesses = (np.array([label for row in rows for label in row], np.int64) for rows in (true, predicted))
        columns = (labels, guesses, labels[labels == guesses])
        wanted, found, hits = (np.bincount(column, minlength=len(classes)) for column in columns)
        out["accuracy"][name] = float(hits.sum() / len(labels))
        out["macro_f1"][name] = float(np.mean(2 * hits / np.maximum(wanted + found, 1)))
        if span_scores:
            named = [[[classes[label] for label in row] for row in rows] for rows in (true, predicted)]
            for metric, value in span_scores(*named).items():
                out.setdefault(metric, {})[name] = value
    return out
