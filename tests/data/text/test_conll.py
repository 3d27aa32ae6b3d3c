"""Words and labels in columns: three schemes, and what breaks them."""

import re

import pytest

from research.data.text import conll
from research.util.errors import UserError


def write(path, sentences, tab=False):
    """Sentences of labels; words are w0, w1, ..., and a column stands between a word and its label."""
    path.parent.mkdir(exist_ok=True)
    sep = "\t" if tab else " "
    text = "\n\n".join("\n".join(f"w{i}{sep}NN{sep}{label}" for i, label in enumerate(s)) for s in sentences)
    path.write_text(f"{text}\n")
    return path


def read(path, **keys):
    parts, scheme, report = conll.read({"source": "conll", "path": str(path), **keys})
    return {name: [[line.label for line in s] for s in part] for name, part in parts.items()}, scheme, report


def sentences(**parts):
    return {name: [labels.split() for labels in part] for name, part in parts.items()}


@pytest.mark.parametrize(
    "labels, scheme, became, want",
    [
        ("O B-A I-A B-A", "bio", "bio", "O B-A I-A B-A"),
        ("O I-A I-A B-A I-B", "iob1", "bio", "O B-A I-A B-A B-B"),
        ("B-A I-A E-A S-B O", "bioes", "bioes", "B-A I-A E-A S-B O"),
        ("B M M E S", "bioes", "bioes", "B I I E S"),
        ("DT NN VB", "none", "none", "DT NN VB"),
        ("O O O", "none", "none", "O O O"),
    ],
)
def test_the_scheme_is_read_off_the_labels_and_converted(tmp_path, labels, scheme, became, want):
    path = write(tmp_path / "all.conll", [labels.split()] * 4)
    parts, result, report = read(path, valid_fraction=0.25)
    assert parts == sentences(train=[want] * 3, valid=[want]) and result == became
    assert report == [f"source   {path}, labels of scheme {scheme}"]
    assert read(path, valid_fraction=0.25, scheme=scheme)[:2] == (parts, result)


def test_a_folder_has_parts(tmp_path):
    write(tmp_path / "ner" / "train.txt", [["B-A", "I-A"], ["O"]], tab=True)
    write(tmp_path / "ner" / "dev.conll", [["S-A"]])
    write(tmp_path / "ner" / "test.txt", [["O", "B-A", "E-A"]])
    (tmp_path / "ner" / "notes.txt").write_text("not read")
    (tmp_path / "ner" / "README.md").write_text("nor this")
    with pytest.raises(
        UserError, match=r"train.txt, line 2: I-A ends a sentence, whose span has no E-A \(scheme bioes\)"
    ):
        read(tmp_path / "ner")
    write(tmp_path / "ner" / "train.txt", [["B-A", "E-A"], ["O"]], tab=True)
    parts, scheme, report = read(tmp_path / "ner")
    assert parts == sentences(train=["B-A E-A", "O"], valid=["S-A"], test=["O B-A E-A"]) and scheme == "bioes"
    assert report[1:] == [
        "ignored  1 files that are not .txt .conll: 1 .md",
        "ignored  notes.txt, which is not called train, valid or test",
    ]


def test_documents_are_counted_and_a_tab_separates_words_with_spaces(tmp_path):
    (tmp_path / "a.txt").write_text("-DOCSTART- -X- O\n\nNew York\tB-LOC\r\nis O\n \n\n-DOCSTART- O\nhere O\n\nyes O\n")
    parts, _, report = conll.read({"source": "conll", "path": str(tmp_path / "a.txt"), "valid_fraction": 0.3})
    assert [[line.word for line in s] for s in parts["train"]] == [["New York", "is"], ["here"]]
    assert report[1:] == ["skipped  2 lines -DOCSTART- of a.txt"]


@pytest.mark.parametrize(
    "labels, scheme, message",
    [
        ("O I-A B-B", None, "line 2: I-A after O, where no span A is open (scheme bio)"),
        ("B-A I-B", "bio", "line 2: I-B after B-A, where no span B is open (scheme bio)"),
        ("I-A O B-A", "iob1", "line 3: B-A after O, where I-A would begin a span (scheme iob1)"),
        ("O E-A", None, "line 2: E-A after O, where no span A is open (scheme bioes)"),
        ("B-A O", "bioes", "line 2: O after B-A, whose span has no E-A (scheme bioes)"),
        ("B M S", None, "line 3: S after I, whose span has no E (scheme bioes)"),
        ("B-A I-A S-A", "bio", "line 3: the label 'S-A' is none of the scheme bio"),
        ("O NN", "bio", "line 2: the label 'NN' is none of the scheme bio"),
    ],
)
def test_what_breaks_a_scheme_is_one_line(tmp_path, labels, scheme, message):
    path = write(tmp_path / "all.conll", [labels.split()] * 4)
    with pytest.raises(UserError, match=re.escape(f"{path}, {message}")) as caught:
        read(path, scheme=scheme)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, keys, message",
    [
        ("a O\nb\n", {}, "line 2: 'b' has no label"),
        ("a O\n\nb O\n", {"scheme": "iob"}, "data.scheme = 'iob'; did you mean 'iob1'?"),
        ("a O\n\nb O\n", {"valid_fraction": 0.1}, "data.valid_fraction = 0.1 of 2 sentences to train on leaves 0"),
        ("\n\n", {}, "no labelled word to train on"),
    ],
)
def test_mistakes(tmp_path, text, keys, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read(tmp_path / "a.txt", **keys)
