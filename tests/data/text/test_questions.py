"""Sources of questions: what is checked, what is held out, and the generated fact sheets."""

import gzip
import hashlib
import json

import pytest

from research.core.config import track_reads
from research.data import download
from research.data.builders import squad
from research.data.text import questions, synthetic_qa
from research.util.errors import UserError

OPTIONS = {"path": None, "valid_fraction": None, "passages": None}


def file(articles):
    """{title: {passage: [(id, question, [(text, start)])]}} in SQuAD's form."""
    data = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": passage,
                    "qas": [
                        {"id": i, "question": q, "answers": [{"text": t, "answer_start": s} for t, s in answers]}
                        for i, q, answers in rows
                    ],
                }
                for passage, rows in passages.items()
            ],
        }
        for title, passages in articles.items()
    ]
    return json.dumps({"data": data, "version": "1.1"})


def numbered(count):
    return {f"t{i}": {f"The number is {i}.": [(f"q{i}", " Which number? ", [(str(i), 14)])]} for i in range(count)}


def load(path, **more):
    return questions.load(track_reads({**OPTIONS, "source": "files", "path": str(path), **more}))


def test_files_are_split_by_document_whatever_their_order(tmp_path):
    (tmp_path / "a.json").write_text(file(numbered(40)))
    found = load(tmp_path / "a.json", valid_fraction=0.25)
    assert (len(found.train), len(found.valid), found.test) == (30, 10, None)
    assert not set(found.train.titles) & set(found.valid.titles)
    backwards = dict(reversed(numbered(40).items()))
    (tmp_path / "b.json").write_text(file(backwards))
    assert set(load(tmp_path / "b.json", valid_fraction=0.25).valid.ids) == set(found.valid.ids)
    for part in (found.train, found.valid):
        for i in range(len(part)):
            ((text, start),) = part.answers[i]
            assert part.passages[part.passage_index[i]][start : start + len(text)] == text == part.ids[i][1:]
            assert part.questions[i] == "Which number?"


P = "The cat sat."


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("q7", "Who?", [("sat.", 9)]), "question 'q7': its answer 'sat.' at character 9 is outside its passage of 12"),
        (("q7", "Who?", [("The", -1)]), "question 'q7': its answer 'The' at character -1 is outside its passage of 12"),
        (("q7", "Who?", [("cat", 0)]), "question 'q7': at character 0 of its passage stands 'The', not 'cat'"),
        (("q7", " \n", [("cat", 4)]), "question 'q7' is empty"),
        (("q6", "Who?", [("cat", 4)]), "several questions have the id 'q6'"),
        (("q7", "Who?", [(" ", 3)]), "question 'q7': its answer ' ' is empty"),
    ],
)
def test_a_question_with_a_fault_is_named(tmp_path, row, told):
    (tmp_path / "a.json").write_text(file({"t": {P: [("q6", "Who sat?", [("cat", 4)]), row]}}))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.json")
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot read"),
        ('{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "is not in SQuAD's form: KeyError"),
        ("[1]", "is not in SQuAD's form"),
    ],
)
def test_files_of_another_kind(tmp_path, text, told):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=told):
        load(tmp_path / "a.json")
    with pytest.raises(UserError, match="no source of questions 'squat'; did you mean 'squad'"):
        questions.load(track_reads({**OPTIONS, "source": "squat"}))


def test_generated_parts_share_no_name_and_tell_no_fact_twice():
    parts = {part: synthetic_qa.passages(part, 60) for part in synthetic_qa.PARTS}
    assert synthetic_qa.passages("valid", 60) == parts["valid"] != synthetic_qa.passages("valid", 60, seed=1)
    assert synthetic_qa.passages("valid", 20) == parts["valid"][:20]
    names = {}
    for part, rows in parts.items():
        # A product's name is the word before its kind, in every question.
        names[part] = {q.question.split(" the ")[-1].split()[0] for _, _, asked in rows for q in asked}
        told = [(q.question, q.answer) for _, _, asked in rows for q in asked]
        assert len({question for question, _ in told}) == len(told)
        for _, passage, asked in rows:
            for q in asked:
                assert passage[q.start : q.start + len(q.answer)] == q.answer
    assert not names["train"] & names["valid"] and not names["train"] & names["test"]
    found = questions.load(track_reads({**OPTIONS, "source": "generated", "passages": 40}))
    assert [len(part.passages) for part in (found.train, found.valid, found.test)] == [40, 20, 20]
    with pytest.raises(UserError, match="data.passages = 3"):
        questions.load(track_reads({**OPTIONS, "source": "generated", "passages": 3}))


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Small files in the mirror, gzipped, and their checksums in the builder."""
    monkeypatch.setenv("ALMANAC_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path / "data"))
    (tmp_path / "mirror" / "squad").mkdir(parents=True)
    texts = {
        "TRAIN": file(numbered(30)),
        "REBUILT": file(numbered(20)),
        "DEV": file({"d": {P: [("q", "Who?", [("cat", 4)] * 3)]}}),
    }
    for name, text in texts.items():
        raw, old = text.encode(), getattr(squad, name)
        monkeypatch.setattr(squad, name, download.File(old.name, old.url, hashlib.sha256(raw).hexdigest(), len(raw)))
        (tmp_path / "mirror" / "squad" / f"{old.name}.gz").write_bytes(gzip.compress(raw))
    return tmp_path / "mirror" / "squad"


def test_squad_says_which_training_file_it_read(upstream):
    cfg = track_reads({**OPTIONS, "source": "squad", "valid_fraction": 0.1})
    published = questions.load(cfg)
    assert (len(published.train), len(published.valid), len(published.test)) == (27, 3, 1)
    assert "the published training file" in published.report[0]
    assert published.test.answers == [(("cat", 4),) * 3]
    (upstream / f"{squad.TRAIN.name}.gz").unlink()
    rebuilt = questions.load(cfg)
    assert (len(rebuilt.train), len(rebuilt.valid), len(rebuilt.test)) == (18, 2, 1)
    assert "made-up ids" in rebuilt.report[0]


# Fields of another type, and questions without an answer


def written(path, *rows):
    """A file with one article of one question for each (passage, fields)."""
    articles = [
        {
            "title": f"t{i}",
            "paragraphs": [
                {"context": passage and f"{passage} {i}", "qas": [{"id": f"q{i}", "question": "Who?", **fields}]}
            ],
        }
        for i, (passage, fields) in enumerate(rows)
    ]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"version": "v2.0", "data": articles}).encode())
    return path


def answer(text="cat", start=4):
    return {"answers": [{"text": text, "answer_start": start}]}


def test_fields_of_another_type_are_read_or_named(tmp_path):
    good = [(P, answer())] * 10
    path = written(
        tmp_path / "a.json",
        *good,
        (P, answer(start="4")),
        (P, answer(start=4.0)),
        (P, {**answer(), "id": 7}),
        (P, answer(start=None)),
        (P, answer(start=4.5)),
        (P, answer(text=None)),
        (None, answer()),
        (P, {**answer(), "question": None}),
        (P, {**answer(), "id": None}),
        (P, {"answers": None}),
        (P, {"answers": ["cat"]}),
        (P, {**answer(), "is_impossible": "no"}),
        (P, {**answer(), "is_impossible": True}),
        ("a \ud800 cat", answer()),
    )
    found = load(path)
    parts = [found.train, found.valid]
    assert {i for part in parts for i in part.ids} == {*(f"q{i}" for i in range(12)), "7"}
    assert {answers for part in parts for answers in part.answers} == {(("cat", 4),)}
    assert f"{path}: 13 questions" in found.report[0] and "without" not in found.report[0]
    told = "\n".join(found.report)
    assert "skipped  11" in told and "question 'q13': its answer 'cat' begins at null, no whole number" in told
    faults: list[str] = []
    questions.collect(questions._file_rows(path, faults))
    assert [fault.split("'")[1] if "'" in fault else fault for fault in faults] == [
        *("q13", "q14", "q15", "q16", "q17"),
        "question None: its id is no text",
        *("q19", "q20", "q21", "q22", "q23"),
    ]


def test_unanswerable_questions_are_questions(tmp_path):
    plausible = {"plausible_answers": [{"text": "cat", "answer_start": 4}]}
    none = [
        (P, {"answers": [], "is_impossible": True, **plausible}),
        (P, {"answers": []}),
        (P, {"is_impossible": True}),
    ]
    path = written(tmp_path / "a.json", *[(P, {**answer(), "is_impossible": False})] * 9, *none)
    found = load(path, valid_fraction=0.3)
    answers = found.train.answers + found.valid.answers
    assert sorted(map(len, answers)) == [0] * 3 + [1] * 9
    assert found.report[0].endswith("12 questions, 3 of them without an answer")
    some = questions.answered(found)
    assert len(some.train) + len(some.valid) == 9 and all(some.train.answers + some.valid.answers)
    assert some.report[-1] == "left out 3 questions without an answer: no passage is right for them"


def test_a_file_without_a_whole_question_is_refused(tmp_path):
    with pytest.raises(UserError, match="a.json: no question found .question 'q0': its passage is null, no text"):
        load(written(tmp_path / "a.json", (None, answer())))
    with pytest.raises(UserError, match="is not in SQuAD's form: KeyError: 'answers'"):
        load(written(tmp_path / "a.json", (P, {})))


@pytest.mark.data
def test_real_squad(tmp_path, monkeypatch):
    """Rajpurkar et al. 2016 and SQuAD's page: 87,599 and 10,570 questions; 18,896 and 2,067 passages."""
    from research.data import tfds_records

    monkeypatch.setenv("ALMANAC_DATA", str(tmp_path))
    part = questions.collect(questions._squad_rows(tfds_records.load("squad", "validation")))
    assert (len(part), len(part.passages), len(set(part.titles))) == (10_570, 2_067, 48)
    assert part.questions[0] == "Which NFL team represented the AFC at Super Bowl 50?"
    assert part.answers[0][0] == ("Denver Broncos", 177)
