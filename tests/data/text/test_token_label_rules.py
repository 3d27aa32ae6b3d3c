"""The baselines of token labelling, by hand and by scikit-learn."""

import pytest
from sklearn.metrics import accuracy_score, f1_score

from research.data.text import token_label_rules
from research.evals import entities


def test_baselines_by_scikit_learn():
    train = [[("good", 2), ("bad", 0), ("good", 2), ("film", 1), ("film", 1), ("film", 2)]]
    valid = [[("good", 2), ("film", 2), ("bad", 0)], [("new", 1), ("film", 1)]]
    truth, own, always = [2, 2, 0, 1, 1], [2, 1, 0, 2, 1], [2] * 5  # 2 is the commonest
    labellers = {name: rule(train) for name, rule in token_label_rules.RULES.items()}
    scores = token_label_rules.scores(valid, ("bad", "plain", "good"), labellers)
    for rule, predicted in {"each word's own": own, "most frequent class": always}.items():
        assert scores["accuracy"][rule] == pytest.approx(accuracy_score(truth, predicted))
        assert scores["macro_f1"][rule] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


def test_the_longest_word_matches_from_left_to_right():
    """Known are ab, abc and d: of abcdab three words, of cabx two characters and one word."""
    classes = ("B", "M", "E", "S")
    train = [[("a", 0), ("b", 2)], [("a", 0), ("b", 1), ("c", 2), ("d", 3)]]
    label = token_label_rules.longest_match(train, classes)
    assert ["".join(classes[k] for k in label(text)) for text in ("abcdab", "cabx")] == ["BMESBE", "SBES"]
    texts = [[("a", 0), ("b", 2), ("c", 3)]]  # ab c, where the rule has abc
    scores = token_label_rules.scores(texts, classes, {"longest match": label}, entities.score)
    assert scores["f1"] == {"longest match": 0} and scores["accuracy"]["longest match"] == 1 / 3
