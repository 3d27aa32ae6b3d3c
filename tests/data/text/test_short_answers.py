"""Generated answers: their scores follow from the words that the generator may write, their parts are apart."""

import numpy as np
import pytest

from research.data.text import classification, short_answers
from research.evals import kappa
from tests.data.text.test_classification import KEYS

PARTS = short_answers.answers()


def stated(answer):
    """How many points an answer makes, read from its text: the wordings of each point of its rubric, looked for in it."""
    count = 0
    sentences = set(answer.answer.split(" . "))
    for point in answer.rubric:
        thing, value = next(
            (thing, value) for thing in short_answers.THINGS for value in thing.values
            if thing.says[0].format(v=value[0]) == point
        )  # fmt: skip
        count += bool(sentences & {f"it {form.format(v=v)}" for form in thing.says for v in value})
    return count


def test_a_score_is_the_number_of_points_that_the_text_makes():
    for part in PARTS.values():
        assert [answer.score for answer in part] == [stated(answer) for answer in part]
        assert {answer.score for answer in part} == {0, 1, 2, 3}


def test_parts_are_apart():
    assert {name: len(part) for name, part in PARTS.items()} == {
        "train": 4000,
        "valid": 400,
        "test": 400,
        "unseen": 420,
    }
    texts = [answer.text for part in PARTS.values() for answer in part]
    assert len(texts) == len(set(texts))
    questions = {name: {frozenset(answer.rubric) for answer in part} for name, part in PARTS.items()}
    assert (
        questions["test"] == questions["valid"] == questions["train"] and not questions["train"] & questions["unseen"]
    )


def test_answers_are_a_function_of_the_seed():
    assert short_answers.answers() == PARTS
    assert short_answers.answers(1)["test"] != PARTS["test"]


def test_the_second_grader_judges_each_point_wrongly_at_the_stated_rate():
    """So it gives an answer of no point one in NOISE * 3 of all on the average, and one of three 3 - NOISE * 3."""
    for score in range(4):
        rows = [answer.second for answer in PARTS["train"] if answer.score == score]
        want = score * (1 - short_answers.NOISE) + (3 - score) * short_answers.NOISE
        assert np.mean(rows) == pytest.approx(want, abs=4 * np.sqrt(3 * 0.1 * 0.9 / len(rows)))


def test_the_overlap_of_words_is_a_baseline_between_chance_and_the_second_grader():
    true, second = (np.array([getattr(answer, name) for answer in PARTS["test"]]) for name in ("score", "second"))
    rule = short_answers.by_overlap(PARTS["train"], PARTS["test"])
    assert 0.1 < kappa.cohen(true, rule, "quadratic") < kappa.cohen(true, second, "quadratic") - 0.2


def test_overlap_by_hand():
    def answer(text, score=0):
        return short_answers.Answer(("eats fish", "lives alone", "eats at night"), text, score, score)

    assert short_answers.overlap(answer("it eats fish and eats")) == 2
    train = [answer("no", 0), answer("fish", 1), answer("fish alone", 2), answer("eats fish at night", 3)]
    assert short_answers.by_overlap(train, [answer("it eats"), answer("lives alone at night eats")]).tolist() == [1, 3]


def test_the_grader_who_compares_no_values():
    def answer(*sentences):
        return short_answers.Answer(("eats fish", "lives alone", "is awake at night"), " . ".join(sentences), 0, 0)

    rows = [answer("it feeds on grass", "it eats fish"), answer("it never eats fish", "it is found in caves"),
            answer("it is seen by itself", "it comes out late", "it lives on ripe berries")]  # fmt: skip
    assert short_answers.value_blind(rows).tolist() == [1, 0, 3]
    assert all(short_answers.value_blind(PARTS["test"]) >= [answer.score for answer in PARTS["test"]])


def test_both_kinds_of_held_out_answers_can_be_evaluated():
    data = classification.load({**KEYS, "source": "short_answers", "length": 96}, seed=0)
    assert data.classes == ("0", "1", "2", "3") and {k: len(v.source) for k, v in data.evals.items()} == {
        "valid": 400, "test": 400,
    }  # fmt: skip
    unseen = data.eval_batches({**KEYS, "source": "short_answers", "part": "unseen"})
    assert unseen.source.labels.tolist() == [answer.score for answer in PARTS["unseen"]]
