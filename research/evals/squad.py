"""SQuAD v1.1's exact match and F1, in percent (Rajpurkar et al. 2016, 1606.05250, section 6.1), on text as people write it.

Both compare answers without case, ASCII punctuation, the articles a, an and the, and runs of white space, and take the best
over the answers that count as right.
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
    """The best harmonic mean of precision and recall of words, counted with their repetitions, in 0..1."""
    return max(_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers)


def _f1(ours: list[str], theirs: list[str]) -> float:
    shared = (collections.Counter(ours) & collections.Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def score(references: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """Answers and predictions by question id -> {"em", "f1"}: means over the questions, in percent."""
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
