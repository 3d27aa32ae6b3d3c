"""Generated conversations: well formed, answerable from what they say, and apart from those of validation."""

import re

import pytest

from research.data.text import conversations, pydoc_dialogues
from research.data.text.pydoc_dialogues import FORMS, KINDS, conversation, material
from research.util.errors import UserError


def test_each_is_a_conversation_and_a_function_of_its_number():
    for part in ("train", "valid"):
        for i in range(40):
            made = conversation(part, i)
            assert conversations.fault_of(list(made.messages)) == "" and made.kind == KINDS[i % 4]
            assert conversation(part, i) == made != conversation(part, i + 4)
    assert conversation("train", 0, seed=1) != conversation("train", 0)


def answer(messages):
    """What a reader of the messages before the last reply says: it follows the told values with expressions of its own."""
    facts, quotes, system, thing = {}, {}, "", ""
    for each in messages[:-1]:
        text = each["content"]
        if each["role"] == "system":
            system = text
        elif told := re.fullmatch(r"(?:My|Note that my) (\w+) is (\w+)\.", text):
            facts[told[1]] = told[2]
        elif told := re.fullmatch(r"(\w+) is my (\w+)\.", text):
            facts[told[2]] = told[1]
        elif told := re.fullmatch(r"Of ([^:]*): (.*)", text):
            quotes[told[1]] = told[2]
        elif asked := re.search(r"(?:my|about|told you of) ([^?]+?)[?.]$", text):
            thing = asked[1]
    if thing in quotes:
        return quotes[thing]
    sentence = f"Your {thing} is {facts[thing]}."
    return FORMS[system](sentence, facts[thing]) if system else sentence


def test_the_reply_follows_from_what_was_told():
    for i in range(400):
        made = conversation("valid", i)
        assert made.reply == answer(made.messages), made
    assert FORMS["Answer in capitals."]("Your room is 5.", "5") == "YOUR ROOM IS 5."
    assert FORMS["End every answer with over."]("Your room is 5.", "5") == "Your room is 5. Over."


def test_validation_has_values_of_its_own():
    train, valid = material("train"), material("valid")
    assert not set(train.numbers) & set(valid.numbers) and len(train.numbers) + len(valid.numbers) == 9_000
    assert not set(train.words) & set(valid.words) and min(map(len, valid.words)) >= 4
    quoted = [{s for each in has.sentences.values() for s in each} for has in (train, valid)]
    assert not set(train.sentences) & set(valid.sentences) and not quoted[0] & quoted[1]
    assert len(valid.sentences) > 2 and all(20 <= len(s) <= 80 for s in quoted[0] | quoted[1])


def test_sizes_and_the_guess(monkeypatch):
    monkeypatch.setattr(pydoc_dialogues, "SIZES", {"train": 8, "valid": 4})
    parts = pydoc_dialogues.load({})
    assert [len(parts.train), len(parts.valid)] == [8, 4] and len(parts.report) == 3
    more = pydoc_dialogues.load({"conversations": 12})
    assert more.train[:8] == parts.train and [len(more.train), len(more.valid)] == [12, 4]
    with pytest.raises(UserError, match="data.conversations = -1: 1 or more"):
        pydoc_dialogues.load({"conversations": -1})
    told = [each["content"] for each in parts.valid[3].messages if each["content"].startswith("Of ")]
    assert told[-1].endswith(parts.valid[3].guess) and not told[0].endswith(parts.valid[3].guess)
