"""`almanac monitor`: its table, page and JSON, labels, and which alarms are new."""

import json
from xml.etree import ElementTree

import pytest

from research.serving.monitor import store
from research.serving.monitor.tables import Answer, Request
from research.util.errors import UserError
from tools import cli
from tools.verbs import monitor


@pytest.fixture
def folder(tmp_path):
    made = store.Store(tmp_path / "one")
    made.add(
        [Request(str(i), 60.0 * i, "/v1/predict", 200, 0.25, 1) for i in range(4)],
        [Answer(str(i), 0, 60.0 * i, "pets", "<b>1</b>", confidence=0.5, prediction="cat") for i in range(4)],
    )
    made.close()
    return tmp_path / "one"


def test_it_prints_a_table_and_writes_a_page(folder, capsys):
    assert cli.main(["monitor", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "4 requests" in said and "median 250.0 ms" in said and "no reference" in said
    page = (folder / "monitor.html").read_text()
    assert "<b>1" not in page and "&lt;b&gt;1" in page
    assert "Content-Security-Policy" in page and "<script" not in page
    ElementTree.fromstring(page[page.index("<main>") : page.index("</main>") + 7])  # every element ends


def test_it_prints_json_and_writes_nothing(folder, capsys):
    assert cli.main(["monitor", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["answers"] == 4
    assert not (folder / "monitor.html").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_arrive(folder, tmp_path, capsys, kind):
    lines = {
        "csv": "request_id,label,subgroup\n0,cat,new\n1,dog,\nelse,cat,\n",
        "jsonl": '{"request_id": "0", "label": "cat", "subgroup": "new"}\n{"request_id": 1, "label": "dog"}\n'
        '{"request_id": "else", "label": "cat", "row": 3}\n',
    }
    file = tmp_path / f"labels.{kind}"
    file.write_text(lines[kind])
    assert cli.main(["monitor", "label", str(folder), str(file)]) == 0
    assert "3 labels, 2 of them" in capsys.readouterr().out
    cli.main(["monitor", str(folder)])
    assert "accuracy 0.500 +- 0.354 of 2 labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "request_id,label\n1\n"),
        ("a.csv", "request_id,label,row\n1,cat,first\n"),
        ("a.jsonl", "{}\n"),
        ("a.jsonl", "[1]\n"),
        ("a.jsonl", '{"request_id": 1, "label": null}\n'),
        ("a.jsonl", '{"request_id": 1, "label": "cat", "row": 0.5}\n'),
    ],
)
def test_a_label_that_cannot_be_read_is_named_by_its_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}, line \d: .*; want request_id, label"):
        list(monitor.read_labels(tmp_path / name))


def test_mistakes(folder, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("")
    (tmp_path / "ids.csv").write_text("id,label\n1,cat\n")
    for argv, word in {
        ("monitor", str(tmp_path)): "there is no requests.sqlite",
        ("monitor", str(folder), "--webhook=http://host/"): "--watch=SECONDS",
        ("monitor", str(folder), "--watch=0"): "--watch=0.0: above 0",
        ("monitor", str(folder), "--watch=9", "--webhook=file:///x"): "want http://",
        ("monitor", "label", str(tmp_path), "x.csv"): "there is no requests.sqlite",
        ("monitor", "label", str(folder), str(tmp_path / "ids.csv")): "has no column 'request_id' but id, label",
        ("monitor", "label", str(folder), str(tmp_path / "labels.txt")): "want a .csv or a .jsonl",
    }.items():
        assert cli.main(list(argv)) == 2
        assert word in capsys.readouterr().err


def alarm(time, until, stands=False):
    return {"time": time, "until": until, "stands": stands, "signals": {"class": 50}}


def numbers(*alarms):
    return {"models": [{"model": "m", "version": "1", "alarms": list(alarms)}]}


def test_an_alarm_is_news_once():
    known, found = monitor.news(numbers(alarm(1.0, 2.0), alarm(5.0, 6.0, stands=True)), None)
    assert [each["time"] for each in found] == [5.0]  # the first was over before anyone looked
    known, found = monitor.news(numbers(alarm(1.0, 2.0), alarm(5.0, 9.0, stands=True)), known)
    assert found == []
    known, found = monitor.news(numbers(alarm(5.0, 9.0), alarm(20.0, 21.0)), known)
    assert [(each["time"], each["model"], each["at"]) for each in found] == [(20.0, "m", "1970-01-01 00:00:20")]


def test_new_alarms_are_logged_and_sent(monkeypatch, caplog):
    """Two looks, a pause after each; the second pause ends it, as Ctrl-C does."""
    looks = [numbers(), numbers(alarm(7.0, 9.0, stands=True))]
    pauses, sent = [], []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(monitor, "_summary", lambda _: looks.pop(0))
    monkeypatch.setattr(monitor.time, "sleep", pause)
    monkeypatch.setattr(monitor.alerts, "send", lambda address, alert: sent.append((address, alert["time"])))
    with pytest.raises(KeyboardInterrupt):
        monitor._watch(["folder"], 60.0, "http://host/")
    assert sent == [("http://host/", 7.0)] and pauses == [60.0, 60.0]
    assert "drift of m 1: class" in caplog.text
