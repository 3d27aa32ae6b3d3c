"""Labelled texts of the user's: each row is read whole or named, in a table and in folders."""

import json

import pytest

from research.data.text import labelled_corpora, labelled_files
from research.util.errors import UserError


def read(path, **more):
    return labelled_files.read({"path": str(path), "source": "files", **more})


def load(path):
    corpus = labelled_corpora.load({"path": str(path), "source": "files"})
    return corpus, "\n".join(corpus.report)


def test_labels_of_a_jsonl_are_texts_numbers_and_truth_values(tmp_path):
    values = ["pos", None, float("nan"), 1, 1.0, ["pos"], " pos", 0.5, True, {"a": 1}, float("inf"), "1"]
    rows = [json.dumps({"text": f"text {i}", "label": value}) for i, value in enumerate(values)]
    (tmp_path / "a.JSONL").write_text("\n".join([*rows, '{"text": "none"}', '{"text": null, "label": "pos"}']))
    corpus, report = load(tmp_path / "a.JSONL")
    assert corpus.classes == ("0.5", "1", "pos", "true")
    labels = [corpus.classes[i] for i in corpus.parts["train"].labels]
    assert labels == ["pos", "1", "1", "pos", "0.5", "true", "1"]
    for fact in (
        "skipped  7",
        "line 2: no label under 'label'",
        "line 3: no label under 'label' but nan",
        "line 6: no label under 'label' but ['pos']",
        "line 10: no label under 'label' but {'a': 1}",
        "line 11: no label under 'label' but inf",
        "line 13: no label under 'label'",
        "line 14: no text under 'text'",
    ):
        assert fact in report


@pytest.mark.parametrize("name", ["a.csv", "a.TSV"])
def test_line_breaks_of_unicode_are_characters_of_a_cell(tmp_path, name):
    texts = [f"before{c}after {i}" for i, c in enumerate("\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e")]
    between = "," if name == "a.csv" else "\t"
    lines = [f"text{between}label", *(f"{text}{between}{i % 2}" for i, text in enumerate(texts))]
    (tmp_path / name).write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    rows, report = read(tmp_path / name)
    assert [row.text for row in rows] == texts and [row.label for row in rows] == ["0", "1"] * 4 and report == []


def test_more_cells_than_names_are_no_label(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nhello, world,pos\nfine,neg\nshort\nall well, pos \n")
    rows, report = read(tmp_path / "a.csv")
    assert rows == [("fine", "neg", ""), ("all well", "pos", "")]
    wanted = ["skipped  2", "         line 2: 3 cells under 2 names", "         line 4: 1 cell under 2 names"]
    assert report == wanted


def test_a_stray_quotation_mark_swallows_nothing_in_silence(tmp_path):
    lines = ["text,label", *(f"row {i},{'ab'[i % 2]}" for i in range(100))]
    lines[31], lines[81] = f'"{lines[31]}', f'"{lines[81]}'
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="a.csv, lines 32 and 82: a quotation mark"):
        read(tmp_path / "a.csv")
    lines[81] = lines[81][1:].replace(",", '",')  # closed at the end of a cell: a cell of 51 lines, which may be meant
    (tmp_path / "a.csv").write_text("\n".join(lines))
    rows, report = read(tmp_path / "a.csv")
    assert len(rows) == 50 and report == ["rows     1 of several lines, the longest lines 32 to 82"]


def test_files_of_other_kinds_are_counted_and_their_classes_named(tmp_path):
    for name in ("pos/a.txt", "pos/b.TXT", "neg/a.text", "neg/b.html", "odd/a.txt.gz", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some text")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "c.txt").write_text("\ufeffa linked text")
    (tmp_path / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "pos" / "gone.txt").symlink_to("nowhere")
    rows, report = read(tmp_path)
    assert [(row.text, row.label) for row in rows] == [
        ("a linked text", "far"),
        ("a linked text", "linked"),
        ("some text", "pos"),
        ("some text", "pos"),
    ]
    assert report == [
        "skipped  1",
        "         pos/gone.txt: a link to nothing",
        "ignored  4 files that are not .txt: 1 without suffix, 1 .text, 1 .html, 1 .gz",
        "warning  classes of which no file is read: 2",
        "         neg: 1 .text, 1 .html",
        "         odd: 1 .gz",
    ]


def test_parts_in_capitals_are_parts(tmp_path):
    for part in ("Train", "TEST"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "x.txt").write_text(f"{part} {label}")
    rows, _ = read(tmp_path)
    assert [(row.label, row.part) for row in rows] == [("a", "test"), ("b", "test"), ("a", "train"), ("b", "train")]
    (tmp_path / "a.csv").write_text("text,label,split\nx,a, Train \ny,b,Dev\nz,b,other\n")
    rows, report = read(tmp_path / "a.csv")
    assert [row.part for row in rows] == ["train", "valid"]
    assert report[1].strip() == "line 4: split 'other' is not train, valid or test"


def test_a_folder_of_other_files_alone_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.html").write_text("x")
    with pytest.raises(UserError, match=r"no labelled text found \(1 files that are not .txt: 1 .html\)"):
        read(tmp_path)
