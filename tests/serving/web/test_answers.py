"""Which answers are kept, by hand."""

from research.serving.web.answers import Answers


def test_the_answer_asked_for_longest_ago_goes_first():
    answers = Answers(4)
    answers.put("a", [1, 2])
    answers.put("b", [3, 4])
    assert answers.get("a") == [1, 2]
    answers.put("c", [5])
    assert (answers.get("a"), answers.get("b"), answers.get("c")) == ([1, 2], None, [5])


def test_an_answer_counts_once_and_one_too_long_is_not_kept():
    answers = Answers(4)
    answers.put("a", [1])
    answers.put("a", [1, 2])
    answers.put("b", [3, 4])
    assert answers.get("a") == [1, 2] and answers.get("b") == [3, 4]
    answers.put("c", [0] * 5)
    assert [answers.get(key) for key in "abc"] == [None] * 3
    assert Answers(0).put("a", [1]) is None and Answers(0).get("a") is None
