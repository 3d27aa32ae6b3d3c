"""`almanac helpdesk` on tiny runs that have hardly begun to learn: what it prints and writes, and every mistake."""

import json
from types import SimpleNamespace

import pytest

from research.data.text import service_messages
from tools import cli

FEW = {"num_steps": 2, "optim.warmup": 0, "eval_every": 0, "save_every": 2}
RUNS = {
    "question_answering/tiny": {"data.passages": 10},
    "language_model/service_calls": {
        "model.num_layers": 1,
        "model.num_heads": 2,
        "model.width": 16,
        "data.batch_size": 8,
    },
    "text_classification/service_mood": {},
}
SIZES = {"train": 96, "valid": 24, "test": 48}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of the runs by family, of documents and of orders."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_messages, "SIZES", SIZES)
        for name, changes in RUNS.items():
            words = [f"--config.{key}={value}" for key, value in (FEW | changes).items()]
            assert cli.main(["train", name, *words, f"--workdir={folder / name.replace('/', '.')}"]) == 0
        (folder / "documents").mkdir()
        (folder / "documents" / "a.txt").write_text("Cats sleep.\n\nThe shop opens at nine.\n")
        (folder / "orders.csv").write_text("order,item\nA-1,lamp\nodd\n")
        yield folder


@pytest.fixture
def words(runs):
    """words(**changes) -> a command line; a value of None leaves the option out."""

    def made(**changes):
        values = {
            "reader": runs / "question_answering.tiny", "documents": runs / "documents", "orders": runs / "orders.csv",
            "caller": runs / "language_model.service_calls", "mood": runs / "text_classification.service_mood",
        }  # fmt: skip
        return ["helpdesk", *(f"--{key.replace('_', '-')}={value}" for key, value in {**values, **changes}.items())]

    return made


def test_a_conversation_from_a_file(words, runs, tmp_path, capsys):
    (tmp_path / "messages.txt").write_text("When does the shop open?\n\nWhere is \x1b A-1?\n")
    changes = {"messages": tmp_path / "messages.txt", "page": tmp_path / "new" / "page.html", "false_alarms": 0}
    assert cli.main(words(**changes)) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "> When does the shop open?" and "> Where is \\x1b A-1?" in lines
    assert "left out orders.csv, line 3: 1 cell under 2 names" in err
    assert "<h1>Customer service</h1>" in (tmp_path / "new" / "page.html").read_text()


def test_a_hand_over_ends_it_and_is_summarised(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tools.verbs.helpdesk_parts.Mood.__call__", lambda self, text: 2.0 * ("angry" in text))
    (tmp_path / "messages.txt").write_text("I am angry.\nWhere is A-1?\n")
    for summary in ({"summary": tmp_path / "summary.json"}, {}):
        assert cli.main(words(messages=tmp_path / "messages.txt", **summary)) == 0
        out = capsys.readouterr().out
        assert "handing you over" in out and "Where is" not in out
    assert json.loads((tmp_path / "summary.json").read_text())["unanswered"] == ["I am angry."]
    assert '"handed_over": true' in out


@pytest.mark.parametrize(("terminal", "status"), [(True, 0), (False, 2)])
def test_a_mistake_ends_a_pipe_and_not_a_terminal(words, capsys, monkeypatch, terminal, status):
    lines = iter(["?!", " ", "When does the shop open?"])

    def typed(prompt):
        assert prompt == ("> " if terminal else "")
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: terminal))
    assert cli.main(words(false_alarms=0)) == status
    out, err = capsys.readouterr()
    assert "almanac: the message is empty; write it in words\n" in err and (", by " in out) == terminal


def test_measured(words, capsys):
    assert cli.main(words(measure=None)[:-1] + ["--measure"]) == 0
    out = capsys.readouterr().out
    assert out.count("of the unhappy missed") == 2 and "calls, test, within the schema\n" in out
    assert out.count("  order_status_new: ") == 3 and "(0 of 8, 0.000 to 0.324) right" in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caller": "{runs}/question_answering.tiny"}, "want one of language_model"),
        ({"mood": "{runs}/language_model.service_calls"}, "want one of text_classification"),
        ({"reader": "{runs}/language_model.service_calls"}, "want one of question_answering"),
        ({"mood": "nowhere"}, "nowhere is no run directory"),
        ({"unhappy": "unhapy"}, "--unhappy=unhapy: "),
        ({"false_alarms": "1"}, "--false-alarms=1.0: a share"),
        ({"false_alarms": "nan"}, "--false-alarms=nan: a share"),
        ({"orders": "orders.xlsx"}, "--orders=orders.xlsx: want a .csv"),
        ({"orders": "no.csv"}, "cannot read no.csv"),
        ({"documents": "nowhere"}, "--documents=nowhere is no folder"),
        ({"messages": "nowhere.txt"}, "cannot read nowhere.txt"),
        ({"page": "/proc/page.html"}, "--page=/proc/page.html: "),
    ],
)
def test_a_mistake_is_one_line(words, runs, capsys, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.txt").write_text("")
    changes = {key: value.format(runs=runs) for key, value in changes.items()}
    assert cli.main(words(**{"messages": "none.txt", **changes})) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("almanac: ")]
    assert message in line


def test_too_long_a_message(words, capsys, tmp_path):
    (tmp_path / "long.txt").write_text("a" * 300)
    assert cli.main(words(messages=tmp_path / "long.txt", false_alarms=0)) == 2
    assert "the message has 303 tokens, and the model reads 210: make it shorter" in capsys.readouterr().err
