"""SQuAD v1.1's exact match and F1 of raw text (Rajpurkar et al. 2016, 1606.05250, section 6.1).

Both ignore case, ASCII punctuation, the articles a, an and the, and runs of white space, and take the maximum over the
reference answers.
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


def score(references: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """Answers and predictions by question id -> {"em", "f1"}: means in percent. Raises UserError unless the ids are equal."""
    if not references:
        raise UserError("there are no questions to score")
    for what, names, others in (
        ("no prediction for", references, predictions),
        ("a prediction for what is no question,", predictions, references),
    ):
        if missing := [name for name in names if name not in others]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{len(references)} questions, {len(predictions)} predictions: {what} {missing[0]!r}{more}")
    return {
        name: 100 * sum(of(predictions[i], answers) for i, answers in references.items()) / len(references)
        for name, of in (("em", exact_match), ("f1", f1))
    }
