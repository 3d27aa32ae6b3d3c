"""EM and F1 by hand, and against an implementation written here from the description in the paper and its appendix."""

import random
import re
import string

import pytest

from research.evals import squad
from research.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Denver\tBroncos!", "denver broncos"),
        ("an A the THE", ""),
        ("a-b", "ab"),  # punctuation goes before articles: the hyphen joins
        ("the-cat", "thecat"),
        ("theme another a", "theme another"),
        ("24–10", "24–10"),  # an en dash is no ASCII punctuation
        ("$1,000.50", "100050"),
    ],
)
def test_normalise_by_hand(text, words):
    assert squad.normalise(text) == words


def test_scores_by_hand():
    """3 words against 4, 2 shared: precision 2/3, recall 2/4, F1 = 2 * 2 / 7. The best of several answers counts."""
    assert squad.f1("in Santa Clara", ["Santa Clara, California, USA"]) == pytest.approx(4 / 7)
    assert squad.f1("in Santa Clara", ["Santa Clara, California, USA", "Santa Clara"]) == pytest.approx(4 / 5)
    assert squad.f1("go go go", ["go go stop"]) == pytest.approx(2 / 3)  # with repetitions: 2 shared of 3 and 3
    assert squad.exact_match("the Broncos.", ["broncos", "Denver"]) == 1
    assert squad.exact_match("Broncos Denver", ["Denver Broncos"]) == 0
    assert squad.f1("", ["Denver"]) == squad.exact_match("", ["Denver"]) == 0
    found = squad.score({"a": ["x y"], "b": ["z"]}, {"a": "The x y", "b": "w z"})
    assert found == {"em": pytest.approx(50), "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}


def described(prediction, answers):
    """From the words of section 6.1: bags of tokens, ignoring punctuation and articles, the maximum over answers."""

    def tokens(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return [w for w in re.split(r"\s+", re.sub(r"\b(a|an|the)\b", " ", text)) if w]

    best_em = best_f1 = 0.0
    for answer in answers:
        ours, theirs = tokens(prediction), tokens(answer)
        left, shared = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                shared += 1
        if shared:
            precision, recall = shared / len(ours), shared / len(theirs)
            best_f1 = max(best_f1, 2 * precision * recall / (precision + recall))
        best_em = max(best_em, float(ours == theirs))
    return best_em, best_f1


def test_equal_to_the_description():
    rng = random.Random(0)
    pool = ["the", "a", "An", "cat", "Cat,", "dog", "dog's", "it-self", "U.S.", "«no»", "24–10", "  ", "(x)"]
    for _ in range(2000):
        prediction, *answers = (" ".join(rng.choices(pool, k=rng.randint(0, 5))) for _ in range(rng.randint(2, 4)))
        em, f1 = described(prediction, answers)
        assert squad.exact_match(prediction, answers) == em
        assert squad.f1(prediction, answers) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("predictions", "told"),
    [
        ({"a": "x"}, "2 questions, 1 predictions: no prediction for 'b'"),
        ({}, "no prediction for 'a' and 1 more"),
        ({"a": "x", "b": "y", "c": "z"}, "2 questions, 3 predictions: a prediction for what is no question, 'c'"),
    ],
)
def test_other_ids_are_an_error(predictions, told):
    with pytest.raises(UserError) as caught:
        squad.score({"a": ["x"], "b": ["y"]}, predictions)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no questions"):
        squad.score({}, {})
