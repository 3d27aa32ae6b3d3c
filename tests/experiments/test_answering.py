"""Answers from many passages, with a reader and a retriever whose scores are known; and `almanac ask` on a real, tiny run."""

import json

import numpy as np
import pytest

from experiments.question_answering import open_domain_qa, train
from experiments.question_answering import reader as readers
from experiments.question_answering.configs.base import base
from experiments.question_answering.reader import Span
from research.data.text import questions
from research.util.errors import UserError
from tools import cli

PASSAGES = ["the cat sat", "a dog ran", "no bird sang", "the end"]


class Windows:
    def __init__(self, data):
        self.data = data


class Reader:
    """Finds the word that the question names, sure of it by its length; without one, its first word at -1."""

    no_answer, accuracy = True, 0.9

    def windows(self, data):
        return Windows(data)

    def read(self, variables, windows):
        spans = []
        for question, place in zip(windows.data.questions, windows.data.passage_index, strict=True):
            passage = windows.data.passages[place]
            at = passage.find(question)
            first_word = Span(-1.0, 0, passage.index(" "))
            best = Span(float(len(question)), at, at + len(question)) if at >= 0 else first_word
            spans.append([best, Span(-5.0, 0, 1)])
        return spans


def search(passages):
    """Passages in the order of their numbers."""
    return lambda question: -np.arange(len(passages))


def test_candidates_are_of_the_best_passages_and_in_order():
    answerer = open_domain_qa.Answerer(Reader(), None, PASSAGES, search, 3)
    (found,) = answerer.candidates(["bird"])
    assert answerer.text(found[0]) == "bird" and found[0] == (4.0, 2, 3, 7)
    assert [one.score for one in found] == [4, -1, -1, -5, -5, -5]
    assert {one.passage for one in found} == {0, 1, 2}  # the fourth is not read
    (found,) = answerer.candidates(["end"], without=[0])
    assert {one.passage for one in found} == {1, 2, 3} and answerer.text(found[0]) == "end"
    for question in ("", " ?! "):
        with pytest.raises(UserError, match="the question is empty"):
            answerer.candidates([question])


def test_calibration_asks_with_and_without_the_right_passage():
    rows = [
        ("t", passage, str(i), word, [(word, passage.index(word))])
        for i, (passage, word) in enumerate(zip(PASSAGES, ("cat", "dog", "bird", "end"), strict=True))
    ]
    part = questions.collect(rows)
    measured = open_domain_qa.measure(Reader(), None, part, search, 4)
    assert measured.right.tolist() == [True] * 4 + [False] * 4
    assert [max(s) for s in measured.scores] == [3, 3, 4, 3, -1, -1, -1, -1]
    chosen = open_domain_qa.calibrate(Reader(), measured, {"test": measured})
    assert chosen["curves"]["valid"]["answered"] == 0.5 and chosen["curves"]["test"]["right"] == 1.0
    least = min(3.0 / chosen["temperature"], 99)
    assert 0.5 < chosen["threshold"] <= 1 / (1 + np.exp(-least)) + 1e-9  # between what is right and what is not
    with pytest.raises(UserError, match="a single passage"):
        open_domain_qa.measure(Reader(), None, questions.collect(rows[:1]), search, 4)


@pytest.mark.parametrize(
    ("no_answer", "score"),
    [
        # The cat is found, the second has no answer, and the third's best span is less likely than none: F1 of 1, 1, 0.
        (True, {"em": 200 / 3, "f1": 200 / 3, "has_answer_em": 50.0, "has_answer_f1": 50.0, "no_answer_em": 100.0}),
        # A model that cannot decline gives its best span: F1 of 1, 0, 1.
        (False, {"em": 200 / 3, "f1": 200 / 3, "has_answer_em": 100.0, "has_answer_f1": 100.0, "no_answer_em": 0.0}),
    ],
)
def test_a_question_without_an_answer_is_declined(no_answer, score):
    asked = [("q0", [("cat", 4)], 1.0), ("q1", [], -1.0), ("q2", [("cat", 4)], -1.0)]
    data = questions.collect([("t", PASSAGES[0], name, "Who?", answers) for name, answers, _ in asked])
    reader = object.__new__(readers.Reader)
    reader.no_answer = no_answer
    reader.read = lambda variables, windows, after_batch: [[Span(score, 4, 7)] for *_, score in asked]
    assert reader.score(None, Windows(data)) == pytest.approx(score)


def test_where_all_have_an_answer_the_best_span_is_given():
    data = questions.collect([("t", PASSAGES[0], "q", "Who?", [("cat", 4)])])
    reader = object.__new__(readers.Reader)
    reader.no_answer, reader.read = True, lambda variables, windows, after_batch: [[Span(-1.0, 4, 7)]]
    assert reader.score(None, Windows(data)) == {"em": 100.0, "f1": 100.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A reader, a BERT, and a retriever that have hardly begun to learn."""
    folder = tmp_path_factory.mktemp("runs")
    few = {"num_steps": 2, "eval_every": 0, "save_every": 2}
    data = dict(passages=10, length=80, stride=20, question_length=24, negatives=0.3, batch_size=8, eval_batch_size=16)
    cfg = base(
        data=data | dict(tokenizer="bpe", vocab_size=400),
        model=dict(name="bert", width=16, num_layers=1, num_heads=2),
        optim=dict(warmup=1),
        **few,
    )
    with cfg.unlocked():
        cfg.name = "question_answering/tiny"
    train.train(cfg, folder / "question_answering")
    words = [f"--config.{key}={value}" for key, value in {**few, "optim.warmup": 1, "data.passages": 10}.items()]
    assert cli.main(["train", "retrieval/tiny", *words, f"--workdir={folder / 'retrieval'}"]) == 0
    (folder / "documents").mkdir()
    (folder / "documents" / "a.txt").write_text("Cats sleep.\n\nThe shop opens at nine.\n")
    (folder / "documents" / "empty").mkdir()
    return folder


@pytest.mark.parametrize("retriever", ["bm25", "retrieval"])
def test_ask(runs, capsys, retriever):
    reader = str(runs / "question_answering")
    how = [
        "--documents",
        str(runs / "documents"),
        f"--retriever={retriever if retriever == 'bm25' else runs / retriever}",
    ]
    said = []
    for words in (["When does the shop open?", *how], [*how, "When does the shop open?"]):
        assert cli.main(["ask", reader, *words]) == 0
        out, err = capsys.readouterr()
        said.append(out)
        assert ("fitting temperature and threshold" in err) == (len(said) == 1)  # once
    assert said[0] == said[1] and "a.txt, characters " in said[0]
    start, stop = said[0].split("characters ")[1].split(":")[0].split(" to ")
    shown = said[0].split("[")[1].split("]")[0]
    assert (runs / "documents" / "a.txt").read_text()[int(start) : int(stop)] == shown
    assert said[0].startswith(("no answer (", f"{shown}  (confidence 0."))
    for path in (runs / "question_answering" / "ask").glob("*.json"):
        chosen = json.loads(path.read_text())
        assert 0 < chosen["temperature"] <= 20 and 0 <= chosen["threshold"] <= 1
        assert path.with_suffix(".png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "", "--documents=DOCS"], "the question is empty"),
        (["RUN", " ? ", "--documents=DOCS"], "the question is empty"),
        (["RUN", "--documents=DOCS"], "no question: give one, or run in a terminal"),
        (["RUN", "Who?", "--documents=DOCS/empty"], "no text found"),
        (["RUN", "Who?", "--documents=DOCS/nowhere"], "is no folder"),
        (["RUN", "Who?", "--documents=DOCS", "--passages=0"], "--passages=0: a whole number, at least 1"),
        (["OTHER", "Who?", "--documents=DOCS"], "is a run of retrieval/tiny; want one of question_answering"),
        (
            ["RUN", "Who?", "--documents=DOCS", "--retriever=RUN"],
            "is a run of question_answering/tiny; want one of retrieval",
        ),
        (["RUN", "Who?", "--documents=DOCS", "--retriever=nowhere"], "nowhere is no run directory"),
    ],
)
def test_mistakes_are_one_line(runs, capsys, words, told):
    names = {"RUN": runs / "question_answering", "OTHER": runs / "retrieval", "DOCS": runs / "documents"}
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    capsys.readouterr()
    assert cli.main(["ask", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("almanac: ") and told in err[-1]


def test_evaluate_tells_of_questions_as_well_as_of_batches(runs, capsys):
    for family, name in (("question_answering", "valid/f1"), ("retrieval", "valid/recall_at_5")):
        assert cli.main(["evaluate", str(runs / family)]) == 0
        out = capsys.readouterr().out
        assert "valid/loss" in out and name in out


def test_predict_reads_a_question_and_a_passage(runs, capsys, tmp_path):
    (tmp_path / "a.txt").write_text("What is it?\nIt is a lamp.\n")
    for family, keys in (
        ("question_answering", {"file", "first", "last", "probability"}),
        ("retrieval", {"file", "score"}),
    ):
        assert cli.main(["predict", str(runs / family), str(tmp_path / "a.txt")]) == 0
        assert set(json.loads(capsys.readouterr().out)) == keys
        for text in ("", "Only a question?"):
            (tmp_path / "b.txt").write_text(text)
            assert cli.main(["predict", str(runs / family), str(tmp_path / "b.txt")]) == 2
            assert "want a question in the first line" in capsys.readouterr().err
