"""Generated messages to a service: their calls, and what validation and test have that training has not."""

import re

import pytest

from research.data.text import conversations, dialogues, labelled_corpora, service_messages
from research.data.text.service_messages import SIZES, TOOLS
from research.generation import constraints


@pytest.fixture(scope="module")
def parts():
    return {part: service_messages.draw(part) for part in SIZES}


def numbers(text):
    return re.findall(r"[A-Z]-\d{4}", text)


def test_a_call_follows_from_its_text(parts):
    pattern = re.compile(constraints.schema_regex(service_messages.schema()))
    for rows in parts.values():
        for row in rows:
            assert numbers(row.text) == [value for key, value in row.call.items() if key == "order"]
            assert ("order" in row.call) == (row.call["tool"] == "order_status")
            written = service_messages.as_text(row.call)
            assert set(service_messages.numbers(row.text)) == set(numbers(row.text))
            assert pattern.fullmatch(written) and len(written) < service_messages.MOST


def test_a_schema_of_given_orders():
    for orders, allowed in ((None, "A-1 B-22"), (["A-1"], "A-1"), ([], "")):
        pattern = re.compile(constraints.schema_regex(service_messages.schema(orders)))
        calls = [service_messages.as_text({"tool": "order_status", "order": order}) for order in ("A-1", "B-22")]
        assert [
            order for order, call in zip(("A-1", "B-22"), calls, strict=True) if pattern.fullmatch(call)
        ] == allowed.split()
        assert pattern.fullmatch('{"tool":"which_order"}') and not pattern.fullmatch('{"tool":"order_status"}')


def test_each_part_has_numbers_of_its_own(parts):
    found = {part: {number for row in rows for number in numbers(row.text)} for part, rows in parts.items()}
    assert not found["train"] & found["valid"] | found["train"] & found["test"] | found["valid"] & found["test"]
    assert len(found["train"]) > 3_900


def sentences(rows):
    return {re.sub(r"[A-Z]-\d{4}", "N", s) for row in rows for s in re.split(r"(?<=[.?]) ", row.text)}


def test_half_of_the_held_out_requests_are_new(parts):
    known = sentences(parts["train"])
    for part in ("valid", "test"):
        assert sum(row.known for row in parts[part]) == SIZES[part] // 2
        orders = [row for row in parts[part] if row.call["tool"] == "order_status"]
        assert all(sentences([row]) <= known for row in orders if row.known)
        assert not any(sentences([row]) & known for row in orders if not row.known)


def test_about_half_are_unhappy(parts):
    for rows in parts.values():
        assert 0.45 < sum(row.unhappy for row in rows) / len(rows) < 0.55


def test_it_is_a_function_of_the_seed():
    assert service_messages.draw("valid") == service_messages.draw("valid") != service_messages.draw("valid", seed=1)


def test_as_conversations_and_as_a_corpus(parts):
    talks = service_messages.dialogues({})
    assert [len(talks.train), len(talks.valid), len(talks.test)] == list(SIZES.values())
    assert all(conversations.fault_of(list(talk.messages)) == "" for talk in talks.valid)
    assert set(dialogues.kinds(talks.test)) == {f"{tool}{new}" for tool in TOOLS for new in ("", "_new")}
    corpus = labelled_corpora.load({"source": "service_messages"})
    assert corpus.classes == ("calm", "unhappy") and corpus.parts["test"].texts[0] == parts["test"][0].text
    assert corpus.parts["test"].labels.tolist() == [int(row.unhappy) for row in parts["test"]]
