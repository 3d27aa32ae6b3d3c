"""`almanac chat`: lines of a pipe as messages, commands, and what goes to which stream."""

import io
import json
import re
from types import SimpleNamespace

import pytest

from research.data.text.conversations import message
from research.run import reopen
from research.util.errors import UserError
from tools.verbs import chat


class Echo:
    """A conversation that repeats what it is told."""

    size, context, generated, dropped = 100, 0, 0, 0

    def __init__(self, e, state, key, **options):
        self.options, self.messages = options, []

    def reply(self, text):
        if text == "bad":
            raise UserError("no such character")
        self.generated, self.context, self.dropped = len(text), self.context + len(text), len(self.messages) // 4
        yield from text
        self.messages += [message("user", text), message("assistant", text)]

    def reset(self):
        self.messages = []


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """(words of the command, lines) -> what is written to stdout and stderr."""
    made = []
    e = SimpleNamespace(chat=lambda *args, **options: made.append(Echo(*args, **options)) or made[-1])
    monkeypatch.setattr(reopen, "load", lambda run, which: (e, None, 1))
    monkeypatch.chdir(tmp_path)

    def run(text, *words, terminal=False):
        stdin = io.StringIO(text)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: terminal, readline=stdin.readline))
        monkeypatch.setattr("builtins.input", lambda prompt: _line(stdin))
        assert chat.main(["RUN", *words]) == 0
        return capsys.readouterr(), made[-1]

    return run


def test_each_line_is_a_message(run):
    streams, _ = run("Hi\n\nSo, \x1b[1m\n")
    assert streams.out == "Hi\nSo, \\x1b[1m\n"
    assert streams.err == "almanac: 2 tokens, 2 of 100\nalmanac: 8 tokens, 10 of 100\n"
    assert "; the oldest 1 exchanges left the context" in run("a\na\na\n")[0].err


def test_options_reach_the_conversation(run):
    _, talk = run("", "--system", "Be brief.", "--stop=a", "--stop=b", "--temperature=0", "--top-k=3", "--length=9")
    assert talk.options == {"system": "Be brief.", "stop": ["a", "b"], "temperature": 0.0, "top_k": 3, "length": 9}
    with pytest.raises(UserError, match="--seed=-1"):
        run("", "--seed=-1")


def test_commands(run, tmp_path):
    (tmp_path / "talks.jsonl").write_text('{"messages": []}')  # without a line's end
    streams, talk = run("Hi\n/save talks.jsonl\n/reset\n /quit\n/save talks.jsonl\n/quit\nnever\n")
    assert streams.out == "Hi\n/quit\n" and len(talk.messages) == 2
    rows = [json.loads(line) for line in (tmp_path / "talks.jsonl").read_text().splitlines()]
    assert rows[1:] == [{"messages": [message(r, text) for r in ("user", "assistant")]} for text in ("Hi", "/quit")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/sav x\n", "no command '/sav x'"),
        ("/save\n", "no command '/save'"),
        ("/reset now\n", "no command"),
        ("/save x\n", "there is no reply yet"),
        ("Hi\n/save .\n", "/save .: "),
        ("bad\n", "no such character"),
    ],
)
def test_a_pipe_ends_at_a_mistake_and_a_terminal_does_not(run, monkeypatch, text, words):
    with pytest.raises(UserError, match=re.escape(words)):
        run(text)
    assert words in run(text, terminal=True)[0].err


def _line(stdin):
    if line := stdin.readline():
        return line.removesuffix("\n")
    raise EOFError


def test_ctrl_c_ends_a_reply(run, monkeypatch):
    def reply(self, text):
        try:
            yield "He"
            raise KeyboardInterrupt
        finally:
            self.messages = [message("user", text), message("assistant", "He")]

    monkeypatch.setattr(Echo, "reply", reply)
    streams, talk = run("Hi\n")
    assert streams.out.startswith("He\n") and "almanac: stopped\n" in streams.err and len(talk.messages) == 2


def test_ctrl_c_instead_of_a_message_ends_the_conversation(run, monkeypatch):
    def interrupted(stdin):
        raise KeyboardInterrupt

    monkeypatch.setitem(globals(), "_line", interrupted)
    assert run("Hi\n", terminal=True)[1].messages == []


def test_a_run_without_conversations(monkeypatch):
    e = SimpleNamespace(chat=None, cfg=SimpleNamespace(name="gan/tiny"))
    monkeypatch.setattr(reopen, "load", lambda run, which: (e, None, 1))
    with pytest.raises(UserError, match="gan/tiny has no conversations"):
        chat.main(["RUN"])
