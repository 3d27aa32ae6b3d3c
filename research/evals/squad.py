"""SQuAD's exact match and F1 of raw text (Rajpurkar et al. 2016, 1606.05250, section 6.1; version 2.0: 2018, 1806.03822).

Both ignore case, ASCII punctuation, the articles a, an and the, and runs of white space, and take the maximum over the
reference answers. Where some questions have no answer, all are scored as version 2.0's evaluation script does: a question
without an answer scores 1 if the prediction is empty, else 0, and an empty prediction for another question scores 0.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

from research.util.errors import UserError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation and then without articles, one space between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction is one of the answers, else 0."""
    return float(any(normalise(prediction) == normalise(answer) for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of words, with their counts, in 0..1; the maximum over `answers`.

    >>> f1("The red cat", ["a cat sat"])  # "red cat" against "cat sat": 2 * 1 / (2 + 2)
    0.5
    """
    return max(_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers)


def _f1(prediction: list[str], answer: list[str]) -> float:
    shared = (collections.Counter(prediction) & collections.Counter(answer)).total()
    return 2 * shared / (len(prediction) + len(answer)) if shared else 0.0


METRICS = ("em", "f1", "has_answer_em", "has_answer_f1", "no_answer_em")


def score(references: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """Answers and predictions by question id -> {"em", "f1"}: means in percent. Raises UserError unless the ids are equal.

    If a question has no answers, "has_answer_em", "has_answer_f1" and "no_answer_em" are means over the two kinds of questions.

    >>> score({"a": ["x y"], "b": []}, {"a": "x", "b": ""})["em"]
    50.0
    """
    if not references:
        raise UserError("there are no questions to score")
    for what, names, others in (
        ("no prediction for", references, predictions),
        ("a prediction for what is no question,", predictions, references),
    ):
        if missing := [name for name in names if name not in others]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{len(references)} questions, {len(predictions)} predictions: {what} {missing[0]!r}{more}")
    if not all(references.values()):
        return _score_2(references, predictions)
    return {
        name: 100 * sum(of(predictions[i], answers) for i, answers in references.items()) / len(references)
        for name, of in (("em", exact_match), ("f1", f1))
    }


def _score_2(references: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """The metrics of version 2.0, in percent."""
    kinds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}  # (em, f1), by whether there is an answer
    for i, answers in references.items():
        # The script drops answers of which nothing is left, and takes "" where no other is.
        words = [answer for answer in answers if normalise(answer)] or [""]
        kinds[bool(answers)].append((exact_match(predictions[i], words), max(_f1_2(predictions[i], a) for a in words)))
    values = {"": kinds[True] + kinds[False], "has_answer_": kinds[True]}
    means = {
        f"{kind}{name}": 100 * sum(pair[k] for pair in pairs) / len(pairs)
        for kind, pairs in values.items()
        for k, name in enumerate(("em", "f1"))
        if pairs
    }
    return means | {"no_answer_em": 100 * sum(em for em, _ in kinds[False]) / len(kinds[False])}


def _f1_2(prediction: str, answer: str) -> float:
    prediction, answer = normalise(prediction), normalise(answer)
    if not prediction or not answer:
        return float(prediction == answer)
    return _f1(prediction.split(), answer.split())
