"""A service's conversation with parts whose outputs are known: who replies to what, with which evidence; orders; the page."""

from typing import NamedTuple

import pytest

from experiments.customer_service import orders, page
from experiments.customer_service.conversation import Conversation, Parts, parse, reply, stands_in, summary
from research.util.errors import UserError

TABLE = {"A-1042": {"order": "A-1042", "item": "lamp", "status": "on its way", "arrives": ""}}


class Found(NamedTuple):
    text: str
    confidence: float
    threshold: float = 0.6
    document: str = "shop.md"
    start: int = 10
    stop: int = 14


def talk(call="", probability=0.9, mood=0.1, found=None):
    """A conversation whose parts always give these; a part that must not be asked is None."""

    def answers(value):
        def answer(message):
            assert value is not None, "this part was not to be asked"
            return value

        return answer

    return Conversation(Parts(answers(mood), 0.5, answers((call, probability)), TABLE, answers(found)))


STATUS = '{"tool":"order_status","order":"%s"}'


def test_an_unhappy_customer_is_handed_over_and_nothing_else_is_asked():
    given = reply(talk(call=None, mood=0.5), "This is bad")  # the threshold itself is reached
    assert (given.kind, given.part, given.confidence) == ("hand_over", "mood", 0.5)
    assert given.evidence == {"threshold": 0.5}
    ended = talk(mood=0.5).then("This is bad")
    assert ended.ended
    with pytest.raises(UserError, match="handed over"):
        ended.then("Hello?")


def test_an_order_is_looked_up():
    given = reply(talk(STATUS % "A-1042"), "Where is A-1042?")
    assert given.text == "Order A-1042: item lamp, status on its way."
    assert (given.kind, given.part, given.confidence) == ("order", "call", 0.9)
    assert given.evidence == {"call": {"tool": "order_status", "order": "A-1042"}, "row": TABLE["A-1042"]}


def test_an_order_that_is_not_in_the_table_is_named():
    given = reply(talk(STATUS % "B-7"), "Where is B-7?")
    assert given.kind == "unknown_order" and given.text == "There is no order B-7. Please check its number."


@pytest.mark.parametrize("message", ["Where is it?", "Where is A-10421?", "Where is XA-1042?", "Where is A-1042-7?"])
def test_an_order_that_the_message_does_not_have_is_refused(message):
    """Even one that is in the table: it is another customer's."""
    given = reply(talk(STATUS % "A-1042"), message)
    assert given.kind == "refused" and "row" not in given.evidence and "A-1042" not in given.text
    assert given.evidence["fault"] == "the number does not stand in the message"


@pytest.mark.parametrize(
    "call", ["", "null", "{", '{"tool":"refund"}', '{"tool":"documents","order":"A-1"}', '{"tool":[]}']
)
def test_what_is_no_call_is_refused(call):
    given = reply(talk(call), "Where is A-1042?")
    assert given.kind == "refused" and given.evidence == {"call": call, "fault": "it is no call"}


def test_a_number_is_asked_for():
    given = reply(talk('{"tool":"which_order"}'), "Where is my order?")
    assert given.kind == "which_order" and given.evidence == {"call": {"tool": "which_order"}}


def test_documents_answer_or_it_does_not_know():
    place = {"threshold": 0.6, "document": "shop.md", "start": 10, "stop": 14}
    given = reply(talk('{"tool":"documents"}', found=Found("card", 0.6)), "How can I pay?")
    assert (given.kind, given.text, given.part, given.confidence) == ("answer", "card", "documents", 0.6)
    assert given.evidence == place
    given = reply(talk('{"tool":"documents"}', found=Found("card", 0.59)), "How can I pay?")
    assert (given.kind, given.text, given.confidence) == ("unknown", "I do not know.", 0.59)
    assert given.evidence == {"best_guess": "card", **place}


def test_an_empty_message():
    with pytest.raises(UserError, match="the message is empty"):
        reply(talk(), " ?! ")


def test_a_summary_for_the_person():
    it = talk(STATUS % "A-1042").then("Where is A-1042?").then("And my other order?")
    it = it._replace(parts=talk(mood=0.9).parts).then("I am angry")
    told = summary(it)
    assert told["handed_over"] and told["orders"] == [TABLE["A-1042"]] and told["refused_calls"] == 1
    assert told["unanswered"] == ["And my other order?", "I am angry"]
    assert [turn["kind"] for turn in told["turns"]] == ["order", "refused", "hand_over"]
    assert told["turns"][2]["message"] == "I am angry" and told["turns"][2]["confidence"] == 0.9


def test_calls_and_numbers():
    assert parse(STATUS % "A-1") == {"tool": "order_status", "order": "A-1"}
    assert parse('{"tool":"order_status","order":7}') is None is parse(STATUS % "")
    assert stands_in("A.1", "Is A.1, then?") and not stands_in("A.1", "Is AX1 there?")


# Orders


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'item,order\n"a lamp, red",A-1\nkettle,B-2\nodd\nnone,\n'),
        ("a.tsv", "item\torder\na lamp, red\tA-1\nkettle\tB-2\nodd\nnone\t\n"),
        (
            "a.jsonl",
            '{"item":"a lamp, red","order":"A-1"}\n{"item":"kettle","order":"B-2"}\n{"order":3}\n{"order":""}\n',
        ),
    ],
)
def test_orders_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    table, skipped = orders.read(tmp_path / name)
    assert {number: row["item"] for number, row in table.items()} == {"A-1": "a lamp, red", "B-2": "kettle"}
    assert len(skipped) == 2 and skipped[0].startswith(f"{name}, line ") and "no number" in skipped[1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "number,item\nA-1,lamp\n", "no column 'order' but number, item; name the column"),
        ("a.csv", "order,item\nA-1,lamp\nA-1,kettle\n", "order 'A-1' on line 2 and line 3; leave one out"),
        ("a.csv", "order,item\n", "has no order"),
        ("a.jsonl", '{"order":3}\n', "has no order .*line 1: want"),
        ("a.xlsx", "", "want a .csv, .tsv or .jsonl file"),
    ],
)
def test_orders_that_cannot_be_used(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        orders.read(tmp_path / name)


def test_the_page_escapes_and_says_why():
    it = talk('{"tool":"documents"}', found=Found("<b>card</b>", 0.75)).then("<script>x</script>?")
    html = page.page(it)
    assert "<script>" not in html and "<b>" not in html and "&lt;b&gt;card" in html
    assert "answer, by documents, 0.750: " in html and "shop.md" in html
