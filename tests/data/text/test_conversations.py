"""The user's conversations: what is one, and which line is none."""

import json
import re

import pytest

from research.data.text import conversations
from research.util.errors import UserError


def talk(*contents, system=None):
    """Turns of the user and the assistant."""
    first = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def load(tmp_path, *lines, **options):
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return conversations.files({"source": "conversations", "path": str(file), **options})


def test_the_last_lines_are_held_out(tmp_path):
    rows = [{"messages": talk(f"{i}?", f"{i}.", system="Count." if i else None), "id": i} for i in range(10)]
    parts = load(tmp_path, *rows, valid_fraction=0.2)
    assert [len(parts.train), len(parts.valid), parts.test] == [8, 2, None]
    assert [c.reply for c in parts.valid] == ["8.", "9."] and parts.train[0].messages == talk("0?", "0.")
    assert parts.train[1].kind is None and parts.report[1:] == ["ignored  the key 'id' of 10 lines"]
    assert len(load(tmp_path, *rows[:2], valid_fraction=0.01).valid) == 1


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (None, "want {"),
        ([], "one message or more"),
        ("Hi", "want {"),
        (["Hi"], "message 1 has the role None"),
        ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool': want one of system, user, assistant"),
        ([{"role": "user", "content": "x", "name": "A"}], "message 1 has 'name' beside role and content"),
        (talk("Hi", "  "), "message 2, of the assistant, has no text"),
        (talk("Hi", None), "message 2, of the assistant, has no text"),
        (talk("Hi", "\ud800"), "message 2 has half a surrogate pair"),
        (talk("Hi", "Hello")[::-1], "message 1 is of the assistant: user and assistant take turns"),
        ([*talk("Hi"), *talk("Hi", "Hello")], "message 2 is of the user: user and assistant take turns"),
        ([*talk("Hi", "Hello"), *talk(system="Obey")], "message 3 is a system text"),
        (talk("Hi", "Hello", "Bye"), "it ends with a message of the user"),
        (talk(system="Obey"), "it ends with a message of the system"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, messages, words):
    good = {"messages": talk("Hi", "Hello")}
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load(tmp_path, good, "", {"messages": messages}, good)
    assert f"{tmp_path / 'talks.jsonl'}, line 3: " in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    good = {"messages": talk("Hi", "Hello")}
    with pytest.raises(UserError, match="line 2: not JSON"):
        load(tmp_path, good, "{")
    with pytest.raises(UserError, match="has 1 conversations: want two or more"):
        load(tmp_path, good)
    with pytest.raises(UserError, match="data.valid_fraction = 1"):
        load(tmp_path, good, good, valid_fraction=1)
    with pytest.raises(UserError, match="want one .jsonl file"):
        conversations.files({"source": "conversations", "path": str(tmp_path)})
