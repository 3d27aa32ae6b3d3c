"""Corpora: what the user's files hold, how they are split, and what is published."""

import json

import pytest

from research.data.text import corpora, language_modelling


def files(path, **more):
    return corpora.load({"source": "files", "path": str(path), **more})


@pytest.mark.data
def test_wikitext2_is_merity_s(tmp_path, monkeypatch):
    """Merity et al. 2017, table 1: articles, tokens (with `<eos>`) and the vocabulary, which has no `<pad>`."""
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    data = language_modelling.load_text({"source": "wikitext2", "tokenizer": "word"})
    assert [len(part) for part in (data.train, data.valid, data.test)] == [2_088_628, 217_646, 245_569]
    assert data.tokenizer.size == 33_278 + 1 and data.tokenizer.special.keys() == {"pad", "unk", "eos"}
    assert not (data.train == data.tokenizer.special["pad"]).any()
    found = corpora.load({"source": "wikitext2"})
    assert [len(found.train), len(found.valid), len(found.test)] == [600, 60, 60]
    for article in found.train + found.valid + found.test:
        title = article.split("\n")[1]
        assert title.startswith(" = ") and title.endswith(" = <eos>") and title.count("=") == 2


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.41, 0.5, 0.52, 0.6, 0.99, 1.0])
def test_documents_cut_in_two_are_the_text_cut_in_two(fraction):
    documents = ["abcdefgh", "ij", "", "klm"]
    whole = "--".join(documents)
    at = int(len(whole) * (1 - fraction))
    train, valid = corpora._cut(documents, fraction, "--")
    assert ("--".join(train), "--".join(valid)) == (whole[:at], whole[at:])


def test_folder_tells_what_it_skipped_and_why(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b.txt").write_text("bbbbbbbbbb")
    (tmp_path / "sub" / "a.md").write_bytes(b"\xef\xbb\xbfaaaaaaaaaa")
    (tmp_path / ".git" / "hidden.txt").write_text("hidden")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "binary.txt").write_bytes(b"ab\0cd")
    (tmp_path / "gbk.txt").write_bytes(b"ok " + "中文".encode("gb18030"))
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    (tmp_path / "empty.txt").write_text(" \n")
    data = files(tmp_path)
    assert (data.text("train"), data.text("valid")) == ("bbbbbbbbb\n\naaaaaaaaa", "b\n\na")
    report = "\n".join(data.report)
    for fact in (
        "2 of 7 files",
        "1 .png",
        "binary.txt: binary, or not UTF-8 (a zero byte at 2)",
        "gbk.txt: not UTF-8 (byte 0xd6 at 3)",
        "marked.txt: not UTF-8 (byte 0xff at 5)",
        "empty.txt: empty",
    ):
        assert fact in report
    assert "hidden" not in report
    assert len(data.report) < 24


def test_a_file_added_later_changes_the_split_of_no_other(tmp_path):
    (tmp_path / "b.txt").write_text("0123456789")
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": f"row{i}"}) + "\n" for i in "xyz"))
    before = files(tmp_path, valid_fraction=0.3)
    (tmp_path / "a.txt").write_text("ABCDEFGHIJ")
    after = files(tmp_path, valid_fraction=0.3)
    for name in ("train", "valid"):
        assert after.text(name).endswith(before.text(name))
    assert before.text("valid") == "789\n\nrowz"


def test_jsonl(tmp_path):
    rows = [
        '{"body": "first"}',
        "",
        "{broken",
        '{"text": 1}',
        '{"body": 3}',
        '{"body": " "}',
        "[1]",
    ]
    rows += ['{"body": "\\ud800"}', '{"body": "a\\u2028b"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    data = files(tmp_path, text_key="body", valid_fraction=0.5)
    assert (data.text("train"), data.text("valid")) == ("first", "a\u2028b")
    report = "\n".join(data.report)
    for fact in (
        "line 3: not JSON",
        "line 4: no text under 'body'",
        "line 5: no text",
        "line 6: empty",
        "line 7: no JSON object but '[1]'",
        "line 8: half a surrogate pair",
    ):
        assert fact in report


def test_suffixes_in_capitals_and_links(tmp_path):
    other = tmp_path / "other"
    (tmp_path / "folder").mkdir()
    other.mkdir()
    (other / "a.TXT").write_bytes("\ufefflinked\u2028text\r\n".encode())
    (tmp_path / "folder" / "link").symlink_to(other)
    (tmp_path / "folder" / "b.JSONL").write_text('{"text": "row one"}\n{"text": "row two"}\n')
    (tmp_path / "folder" / "gone.txt").symlink_to("nowhere")
    data = files(tmp_path / "folder", valid_fraction=0.5)
    assert data.documents == ["row one", "row two", "linked\u2028text\r\n"]
    assert "gone.txt: a link to nothing" in "\n".join(data.report) and data.train[0] == "row one"
