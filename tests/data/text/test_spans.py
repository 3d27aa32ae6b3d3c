"""Words and pieces with their characters, windows, negatives; and the round trip of every answer."""

import re

import numpy as np
import pytest

from research.data import tokenizers
from research.data.text import questions, spans, synthetic_qa
from research.util.errors import UserError


def one(passage, *answers, asked="Which cat sat?", more=()):
    rows = [("t", passage, "q0", asked, list(answers)), *more]
    return questions.collect(rows)


def apart(data, length=6, question_length=4, word_length=3):
    text = spans.vocabulary_text(data)
    return spans.Apart(tokenizers.make("word", text), spans.alphabet(text), length, question_length, word_length)


def test_words_and_the_tokens_an_answer_touches():
    text = "It cost $1.50, in 20–30 naïve days.\n"
    found, places = spans.words(text)
    assert found == ["It", "cost", "$", "1", ".", "50", ",", "in", "20", "–", "30", "naïve", "days", "."]
    assert [text[a:b] for a, b in places] == found
    assert spans.touched(places, 8, 13) == (2, 5)  # "$1.50"
    assert spans.touched(places, 20, 22) == (9, 10)  # "–3": it cuts a word, which is touched whole
    assert spans.touched(places, 7, 10) == (2, 3)  # a blank before it touches nothing
    with pytest.raises(ValueError, match="no token at the characters 7 to 8"):
        spans.touched(places, 7, 8)


@pytest.mark.parametrize("name", ["char", "jieba"])
def test_an_answer_in_chinese_is_found_in_its_clause(name):
    """A clause is one run of letters: by `word` the answer is all of it."""
    if name == "jieba":
        pytest.importorskip("jieba")
    text = "我来到北京清华大学,v2。"
    cut = {"char": list(text), "jieba": ["我", "来到", "北京", "清华大学", ",", "v2", "。"]}[name]
    data = one(text, ("北京", 3), asked="他来到哪里?")
    options = {"length": 20, "question_length": 8}
    tokenizer = tokenizers.make(name, spans.vocabulary_text(data), special=spans.SPECIAL)
    for layout in (spans.Apart(tokenizer, text, word_length=2, **options), spans.Joined(tokenizer, **options)):
        places = layout.tokens(text).spans
        assert [text[a:b] for a, b in places] == cut
        windows = spans.Windows(data, layout, stride=4)
        assert (text[slice(*windows.characters(0, windows._start[0], windows._end[0]))]) == "北京"
    assert layout.tokens(text).numbers.tolist() == tokenizer.encode(text).tolist()


def test_rows_of_words_by_hand():
    data = one("the cat sat on a mat", ("cat", 4))
    layout = apart(data)
    rows = layout.rows([layout.tokens("the mat").numbers], [layout.tokens("cats on Zoë").numbers])
    words = layout.tokenizer.words
    assert [words[i] for i in rows["question"][0]] == ["the", "mat", "<pad>", "<pad>"]
    assert [words[i] for i in rows["passage"][0]][:3] == ["<unk>", "on", "<unk>"]
    letters = {c: i for i, c in enumerate(spans.alphabet(["the cat sat on a mat", "Which cat sat?"]), 2)}
    assert rows["passage_chars"][0, 0].tolist() == [letters[c] for c in "cat"]  # three characters of "cats"
    assert rows["passage_chars"][0, 2].tolist() == [1, letters["o"], 1]  # Z and ë were never seen
    assert rows["passage_chars"][0, 1].tolist() == [letters["o"], letters["n"], 0]
    assert (rows["passage_chars"][0, 3:] == 0).all()


def test_many_words_are_numbered_alike():
    text = " ".join(f"w{i}" for i in range(5000))
    layout = apart(one(text, ("w0", 0)), length=5000)
    numbers = layout.tokens(text).numbers
    rows = layout.rows([numbers[:1]], [numbers])
    assert [layout.tokenizer.words[i] for i in rows["passage"][0, [0, 1023, 1024, 4999]]] == [
        "w0",
        "w1023",
        "w1024",
        "w4999",
    ]


def test_windows_with_and_without_the_answer():
    """Ten words in windows of 6, 3 apart: they begin at 0, 3 and 4. The answer, words 5 and 6, is whole in the last two."""
    data = one("w0 w1 w2 w3 w4 w5 w6 w7 w8 w9", ("w5 w6", 15))
    layout = apart(data)
    windows = spans.Windows(data, layout, stride=3)
    got = windows.gather(np.arange(3))
    assert windows._begin.tolist() == [0, 3, 4] and windows.unanswered == 1
    assert list(zip(got["start"], got["end"], strict=True)) == [
        (0, 0),
        (3, 4),
        (2, 3),
    ]  # place 1 is a window's first word
    for row in (1, 2):
        start, stop = windows.characters(row, int(got["start"][row]), int(got["end"][row]))
        assert data.passages[0][start:stop] == "w5 w6"
    assert len(spans.Windows(data, layout, stride=3, answered=True)) == 2
    with pytest.raises(UserError, match="data.stride = 7 passes over tokens: a window has room for 6"):
        spans.Windows(data, layout, stride=7)


@pytest.mark.parametrize("n", range(1, 30))
def test_windows_cover_every_token(n):
    for room, stride in ((5, 1), (5, 3), (5, 5)):
        begins = spans.begins(n, room, stride)
        assert sorted({i for b in begins for i in range(b, min(n, b + room))}) == list(range(n))
        assert begins == sorted(set(begins)) and all(b - a <= stride for a, b in zip(begins, begins[1:], strict=False))


def test_joined_rows_by_hand():
    text = "aa bb cc dd"
    tokenizer = tokenizers.make("bpe", text * 50, vocab_size=270)
    layout = spans.Joined(tokenizer, 12, 3)
    question, passage = layout.tokens("dd?"), layout.tokens(text)
    rows = layout.rows([question.numbers], [passage.numbers[:4]])
    special, q = tokenizer.special, len(question.numbers)
    ids = [special["cls"], *question.numbers, special["sep"], *passage.numbers[:4], special["sep"]]
    assert rows["tokens"][0].tolist() == ids + [special["pad"]] * (12 - len(ids))
    assert rows["token_type_ids"][0].tolist() == [0] * (q + 2) + [1] * 5 + [0] * (12 - len(ids))
    assert rows["token_mask"][0].tolist() == [1.0] * len(ids) + [0.0] * (12 - len(ids))
    assert layout.first(question.numbers) == q + 2 and layout.room(question.numbers) == 12 - 3 - q
    with pytest.raises(UserError, match="data.length = 8 has no room"):
        spans.Joined(tokenizer, 8, 5)
    with pytest.raises(UserError, match="has no <cls>"):
        spans.Joined(tokenizers.make("word", text), 12, 3)


def test_negatives_hold_no_answer_and_are_a_function_of_seed_and_epoch():
    rows = [
        (title, passage, f"{title}{i}{j}", q.question, [(q.answer, q.start)])
        for i, (title, passage, asked) in enumerate(synthetic_qa.passages("train", 40))
        for j, q in enumerate(asked)
    ]
    data = questions.collect(rows)
    layout = apart(data, length=120, question_length=16)
    windows = spans.Windows(data, layout, stride=60, negatives=0.5, seed=1)
    every = np.arange(len(windows))
    batch = windows.gather(every, epoch=2)
    negative = batch["start"] == 0
    assert 0.35 < negative.mean() < 0.65
    told = layout.tokenizer.words
    same = 0
    for row in np.flatnonzero(negative):
        i = windows.question_index[row]
        shown = [told[t] for t in batch["passage"][row] if t]
        answer = spans.words(data.answers[i][0][0])[0]
        assert not any(shown[k : k + len(answer)] == answer for k in range(len(shown)))
        same += data.titles[data.passage_index[i]].split()[0] in shown
    assert same > 0.9 * negative.sum()  # of the same maker
    few = windows.gather(every[[7, 3]], epoch=2)
    np.testing.assert_array_equal(few["passage"], batch["passage"][[7, 3]])
    other = spans.Windows(data, layout, stride=60, negatives=0.5, seed=2).gather(every, epoch=2)["start"] == 0
    assert (other != negative).any() and ((windows.gather(every, epoch=3)["start"] == 0) != negative).any()


@pytest.mark.data
@pytest.mark.parametrize("kind", ["apart", "joined"])
def test_every_answer_of_squads_dev_comes_back(kind, tmp_path_factory, monkeypatch):
    """Characters to tokens to characters, for all 34,726 answers, through the windows that a model sees.

    What comes back is the answer to the character, but where the answer cuts a word: then it is the least run of words
    around it. A regular expression of its own says which do.
    """
    from research.data import tfds_records

    part = questions.collect(questions._squad_rows(tfds_records.load("squad", "validation")))
    if kind == "apart":
        layout = spans.Apart(tokenizers.make("word", "none"), "", 400, 40, 1)
    else:
        layout = spans.Joined(tokenizers.make("wordpiece", ""), 384, 64)
    answers = [(i, text, start) for i, found in enumerate(part.answers) for text, start in found]
    each = questions.Questions(
        part.passages, part.titles, [str(k) for k in range(len(answers))], [part.questions[i] for i, _, _ in answers],
        [part.passage_index[i] for i, _, _ in answers], [((text, start),) for _, text, start in answers],
    )  # fmt: skip
    windows = spans.Windows(each, layout, 128, answered=True)
    cut, seen = 0, set()
    for row in range(len(windows)):
        i = int(windows.question_index[row])
        (text, start), passage = each.answers[i][0], each.passages[each.passage_index[i]]
        a, b = windows.characters(row, int(windows._start[row]), int(windows._end[row]))
        first, last = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
        inside = [bool(re.match(r"\w\w", passage[at - 1 : at + 1])) for at in (first, last) if 0 < at < len(passage)]
        if any(inside):
            cut += i not in seen
            assert a <= first and b >= last and passage[a:b].split() and len(passage[a:b]) > len(text.strip())
        else:
            assert passage[a:b] == text.strip()
        seen.add(i)
    assert len(answers) == 34_726 and len(seen) == len(answers)
    assert cut == 76
