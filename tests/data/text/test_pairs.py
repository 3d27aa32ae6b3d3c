import numpy as np
import pytest

from research.data import tokenizers
from research.data.text import documents, pairs, questions
from research.util.errors import UserError


def test_pairs_by_hand():
    rows = [
        ("t", "aa bb cc", "0", "aa?", [("aa", 0)]),
        ("t", "bb", "1", "bb", [("bb", 0)]),
        ("t", "aa bb cc", "2", "cc", [("cc", 6)]),
    ]
    data = questions.collect(rows)
    tokenizer = tokenizers.make("word", "aa bb cc")
    source = pairs.QuestionPassagePairs(
        data, pairs.TokenRows(tokenizer, 3, "data.question_length"), pairs.TokenRows(tokenizer, 2, "data.length")
    )
    batch = source.gather(np.array([2, 1, 0]))
    words = {name: [[tokenizer.words[t] for t in row] for row in batch[name]] for name in ("question", "passage")}
    assert words["question"] == [["cc", "<pad>", "<pad>"], ["bb", "<pad>", "<pad>"], ["<unk>", "<pad>", "<pad>"]]
    assert words["passage"] == [["aa", "bb"], ["bb", "<pad>"], ["aa", "bb"]]
    assert batch["passage_mask"].tolist() == [[1, 1], [1, 0], [1, 1]] and batch["number"].tolist() == [0, 1, 0]


def test_special_tokens_stand_around_and_a_long_text_is_cut_between_them():
    tokenizer = tokenizers.make("bpe", "abab" * 9, vocab_size=263)
    rows = pairs.TokenRows(tokenizer, 5, "data.length")(["a", "abcdefgh"])
    cls, sep, pad = (tokenizer.special[name] for name in ("cls", "sep", "pad"))
    assert rows["tokens"][0].tolist() == [cls, *tokenizer.encode("a"), sep, pad, pad]
    assert rows["tokens"][1].tolist() == [cls, *tokenizer.encode("abcdefgh")[:3], sep]
    assert rows["mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    with pytest.raises(UserError, match="data.length = 2 has no room"):
        pairs.TokenRows(tokenizer, 2, "data.length")


CFG = dict(
    source="generated", path=None, valid_fraction=None, passages=10, tokenizer="word", vocab_size=None, min_count=None,
    lowercase=None, length=3, question_length=2, batch_size=2, eval_batch_size=2,
)  # fmt: skip


def retrieval(rank=None, **changes):
    rows = [("t", "aa bb cc", "0", "aa bb cc?", [("aa", 0)]), ("t", "bb", "1", "bb", [("bb", 0)])]
    train, valid = questions.collect(rows), questions.collect(rows[1:])
    corpus = questions.Corpus(train, valid, questions.collect(rows[:1]), ["source   by hand"])
    return pairs.Retrieval(corpus, {**CFG, **changes}, 0, rank)


def test_the_data_set_of_retrieval(tmp_path):
    data = retrieval()
    assert (len(data.train.source), list(data.evals), data.report) == (2, ["valid", "test"], ["source   by hand"])
    batch = data.evals["test"].batch(0)
    assert {
        name: (("b", *batch[name].shape[1:]), batch[name].dtype.name) for name in data.codec.inputs
    } == data.codec.inputs
    (tokenizer,) = data.tokenizers
    assert [tokenizer.words[t] for t in batch["question"][0]] == ["aa", "bb"]  # two tokens of a question are kept
    row = data.codec.encode(("aa bb cc?", "aa bb cc"))
    assert row.keys() == data.codec.inputs.keys()
    for name in data.codec.inputs:
        np.testing.assert_array_equal(row[name], batch[name][:1])
    for value in (("", "bb"), ("aa?", " \n")):
        with pytest.raises(UserError, match="want a question in the first line, and after it the passage"):
            data.codec.encode(value)
    assert data.codec.decode({"score": np.float32([1.23456]), "question": np.zeros((1, 4))}) == {"score": 1.2346}
    (tmp_path / "a.txt").write_text("aa?\nbb\ncc\n")
    assert data.codec.read(tmp_path / "a.txt") == ("aa?", "bb\ncc")
    with pytest.raises(UserError, match="data.question_length = 0 has no room for a token"):
        retrieval(question_length=0)


def test_baselines_are_computed_when_they_are_wanted():
    ranked = []

    def rank(part):
        ranked.append(part.questions)
        return {"mrr": 1 / len(ranked), "recall_at_1": 0.0}

    data = retrieval(rank)
    assert ranked == []
    first, second = {"mrr": 1.0, "recall_at_1": 0.0}, {"mrr": 0.5, "recall_at_1": 0.0}
    want = {
        f"{split}/{name}": {"BM25": v} for split, row in (("valid", first), ("test", second)) for name, v in row.items()
    }
    assert {metric: baseline.values for metric, baseline in data.baselines().items()} == want
    assert list(data.baselines()) == list(want) and ranked[:2] == [["bb"], ["aa bb cc?"]]


def test_load_takes_the_source_that_the_config_names():
    data = pairs.load(CFG, 0, rank=None)
    assert [len(part.passages) for part in (data.corpus.train, *data.corpus.held_out.values())] == [10, 20, 20]
    with pytest.raises(UserError, match="no source of questions 'squat'"):
        pairs.load({**CFG, "source": "squat"}, 0, rank=None)


def test_paragraphs_know_their_place(tmp_path):
    text = "\n  First line,\nand its second. \n\n \n!\n\nLast – one\r\n"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "b.txt").write_bytes(b"ok \xff")
    (tmp_path / "c.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.txt").write_text("secret")
    found, skipped = documents.load(tmp_path)
    assert [p.text for p in found] == ["First line,\nand its second.", "!", "Last – one"]
    for p in found:
        assert p.source == "sub/a.md" and text[p.start : p.start + len(p.text)] == p.text
    assert skipped == ["b.txt: not UTF-8 (byte 0xff at 3)", "c.pdf: not .txt or .md"]


def test_a_paragraph_is_between_blank_lines(tmp_path):
    """Unicode's other line breaks part nothing."""
    text = "one\u2028\u2028still one\x0c\x0cone\r\n\r\ntwo"
    (tmp_path / "far").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "far" / "a.MD").write_bytes(text.encode())
    (tmp_path / "docs" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "docs" / "gone.txt").symlink_to("nowhere")
    found, skipped = documents.load(tmp_path / "docs")
    assert [p.text for p in found] == ["one\u2028\u2028still one\x0c\x0cone", "two"]
    assert all(text[p.start :].startswith(p.text) and p.source == "linked/a.MD" for p in found)
    assert skipped == ["gone.txt: a link to nothing"]


def test_questions_without_an_answer_have_no_passage_to_find(tmp_path):
    rows = [("t", f"aa bb {i}", f"q{i}", "What?", [] if i == 3 else [("bb", 3)]) for i in range(6)]
    corpus = questions.Corpus(questions.collect(rows), questions.collect(rows[:1]), None, [])
    assert questions.answered(corpus).train.ids == ["q0", "q1", "q2", "q4", "q5"]
    with pytest.raises(UserError, match="no question of valid has an answer"):
        questions.answered(questions.Corpus(corpus.train, questions.collect(rows[3:4]), None, []))


def test_documents_without_text(tmp_path):
    for told in ("no .txt or .md file with a word in it", "a.png: not .txt or .md"):
        with pytest.raises(UserError, match=f"--documents={tmp_path}: no text found .{told}"):
            documents.load(tmp_path)
        (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="nowhere is no folder"):
        documents.load(tmp_path / "nowhere")
