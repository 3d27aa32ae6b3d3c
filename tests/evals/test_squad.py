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


# Version 2.0


def script(dataset, predictions):
    """The arithmetic of SQuAD 2.0's evaluation script, from its definition: gold answers of nothing are the empty one."""
    exact, f1 = {}, {}
    for name, answers in dataset.items():
        gold = [a for a in answers if squad.normalise(a)] or [""]
        guess = squad.normalise(predictions[name]).split()
        exact[name] = max(float(squad.normalise(a).split() == guess) for a in gold)
        values = []
        for a in gold:
            words, left = squad.normalise(a).split(), squad.normalise(a).split()
            if not words or not guess:
                values.append(float(words == guess))
                continue
            shared = 0
            for word in guess:
                if word in left:
                    left.remove(word)
                    shared += 1
            p, r = shared / len(guess), shared / len(words)
            values.append(2 * p * r / (p + r) if shared else 0.0)
        f1[name] = max(values)
    return exact, f1


def test_questions_without_an_answer_by_hand():
    """Two answered, one declined in error, one declined rightly, one answered in error."""
    references = {"a": ["x y"], "b": ["z"], "c": ["z"], "d": [], "e": []}
    predictions = {"a": "x", "b": "z", "c": "", "d": "", "e": "y"}
    found = squad.score(references, predictions)
    assert found == {
        "em": pytest.approx(100 * 2 / 5),  # b, d
        "f1": pytest.approx(100 * (2 / 3 + 1 + 0 + 1 + 0) / 5),
        "has_answer_em": pytest.approx(100 / 3),
        "has_answer_f1": pytest.approx(100 * (2 / 3 + 1) / 3),
        "no_answer_em": 50.0,
    }
    assert squad.score({"d": [], "e": []}, {"d": "", "e": "the!"}) == {"em": 100, "f1": 100, "no_answer_em": 100}


def test_equal_to_version_2s_script():
    rng = random.Random(0)
    pool = ["the", "An", "cat", "Cat,", "dog", "  ", "(x)"]

    def text():
        return " ".join(rng.choices(pool, k=rng.randint(0, 3)))

    references = {str(i): [text() for _ in range(rng.randint(0, 2))] for i in range(500)}
    predictions = {name: text() for name in references}
    exact, f1 = script(references, predictions)
    found = squad.score(references, predictions)
    for kind, names in (
        ("", references),
        ("has_answer_", [name for name, answers in references.items() if answers]),
    ):
        assert found[f"{kind}em"] == pytest.approx(100 * sum(exact[name] for name in names) / len(names))
        assert found[f"{kind}f1"] == pytest.approx(100 * sum(f1[name] for name in names) / len(names))
