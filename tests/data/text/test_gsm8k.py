"""GSM8K's problems as conversations: the final number, the guess, and the published parts."""

import pytest

from research.data.text import conversations, gsm8k


def test_by_hand():
    made = gsm8k.conversation("A pen costs $1,200.50 and a cup 3 dollars.", "1+1=<<1+1=2>>2\n#### 1,080 ")
    assert made.reply == "1+1=<<1+1=2>>2\n#### 1080" and made.answer == "1080" and made.kind == "answer"
    assert made.answer_in(made.guess) == "3"
    assert gsm8k.conversation("A pen costs $1,200.50.", "#### 1").guess == "#### 1200.50"
    assert gsm8k.conversation("How many?", "#### 1").answer_in("#### ") == ""


@pytest.mark.data
def test_published_parts():
    parts = gsm8k.load({})
    assert [len(part) for part in (parts.train, parts.valid, parts.test)] == [6_973, 500, 1_319]
    assert parts.train[0].messages[0]["content"].startswith("Natalia sold clips") and parts.train[0].answer == "72"
    every = [*parts.train, *parts.valid, *parts.test]
    assert all(conversations.fault_of(list(talk.messages)) == "" for talk in every)
    assert all(talk.answer.lstrip("-").replace(".", "").isdigit() for talk in every)
