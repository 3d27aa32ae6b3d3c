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
        data, pairs.Encoded(tokenizer, 3, "data.question_length"), pairs.Encoded(tokenizer, 2, "data.length")
    )
    batch = source.gather(np.array([2, 1, 0]))
    words = {name: [[tokenizer.words[t] for t in row] for row in batch[name]] for name in ("question", "passage")}
    assert words["question"] == [["cc", "<pad>", "<pad>"], ["bb", "<pad>", "<pad>"], ["<unk>", "<pad>", "<pad>"]]
    assert words["passage"] == [["aa", "bb"], ["bb", "<pad>"], ["aa", "bb"]]
    assert batch["passage_mask"].tolist() == [[1, 1], [1, 0], [1, 1]] and batch["number"].tolist() == [0, 1, 0]


def test_special_tokens_stand_around_and_a_long_text_is_cut_between_them():
    tokenizer = tokenizers.make("bpe", "abab" * 9, vocab_size=263)
    rows = pairs.Encoded(tokenizer, 5, "data.length")(["a", "abcdefgh"])
    cls, sep, pad = (tokenizer.special[name] for name in ("cls", "sep", "pad"))
    assert rows["tokens"][0].tolist() == [cls, *tokenizer.encode("a"), sep, pad, pad]
    assert rows["tokens"][1].tolist() == [cls, *tokenizer.encode("abcdefgh")[:3], sep]
    assert rows["mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    with pytest.raises(UserError, match="data.length = 2 has no room"):
        pairs.Encoded(tokenizer, 2, "data.length")


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


def test_documents_without_text(tmp_path):
    for told in ("no .txt or .md file with a word in it", "a.png: not .txt or .md"):
        with pytest.raises(UserError, match=f"--documents={tmp_path}: no text found .{told}"):
            documents.load(tmp_path)
        (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="nowhere is no folder"):
        documents.load(tmp_path / "nowhere")
