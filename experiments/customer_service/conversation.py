"""A conversation of a shop's customer service: a reply to each message, with the part that gave it and its evidence.

A message is given to three parts, in this order:

    mood       how probable it is that the writer is unhappy: from `threshold` on a person takes over, and the conversation ends
    call       which tool the message asks for, as JSON: the state of an order, if its number stands in the message; or documents
    find       the best answer that stands in the documents, and its confidence: below its threshold there is none

The parts are functions, so a run can take the place of another, and a test the place of a run.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from research.data import user_files
from research.data.text.service_messages import TOOLS
from research.util.errors import UserError

Orders = Mapping[str, Mapping[str, str]]  # an order's number -> its row
UNANSWERED = ("unknown", "unknown_order", "which_order", "refused", "hand_over")
UNCLEAR = "I did not understand that. Please write it in other words."


class Parts(NamedTuple):
    """What a conversation is made of. `find` returns a named tuple of text, confidence, threshold, and where the text stands."""

    mood: Callable[[str], float]  # a message -> the probability that its writer is unhappy
    threshold: float
    call: Callable[[str], tuple[str, float]]  # a message -> a call as JSON, and its probability
    orders: Orders
    find: Callable[[str], Any]  # a message -> the best answer of the documents


class Reply(NamedTuple):
    """A reply: hand_over, order, unknown_order, which_order, refused, answer or unknown, by the part that gave it."""

    kind: str
    text: str
    part: str
    confidence: float
    evidence: Mapping[str, Any]


class Conversation(NamedTuple):
    """Messages and their replies so far. Once handed over to a person it has ended."""

    parts: Parts
    turns: tuple[tuple[str, Reply], ...] = ()

    @property
    def ended(self) -> bool:
        return any(each.kind == "hand_over" for _, each in self.turns)

    def then(self, message: str) -> "Conversation":
        """The conversation with one more message and its reply."""
        return self._replace(turns=(*self.turns, (message, reply(self, message))))


def reply(conversation: Conversation, message: str) -> Reply:
    """The reply to a message. Raises UserError if the conversation has ended, or the message has no letter or digit."""
    if conversation.ended:
        raise UserError("the conversation was handed over to a person; begin another")
    if not any(character.isalnum() for character in message):
        raise UserError("the message is empty; write it in words")
    parts = conversation.parts
    mood = parts.mood(message)
    if mood >= parts.threshold:
        text = "I am handing you over to a person, who can read this conversation."
        return Reply("hand_over", text, "mood", mood, {"threshold": parts.threshold})
    written, probability = parts.call(message)
    call = parse(written)
    if call is not None and call["tool"] == "documents":
        return _from_documents(parts.find(message))
    kind, text, more = _from_orders(call, parts.orders, message)
    return Reply(kind, text, "call", probability, {"call": written if call is None else call, **more})


def parse(text: str) -> dict[str, str] | None:
    """A call's JSON -> the call, {"tool": ..., "order": ...}; None if the text is no call.

    >>> parse('{"tool":"which_order"}'), parse('{"tool":"order_status"}')
    ({'tool': 'which_order'}, None)
    """
    try:
        call = user_files.parse_json(text)
    except ValueError:
        return None
    tool = call.get("tool") if isinstance(call, dict) else None
    keys = {"tool", "order"} if tool == "order_status" else {"tool"}
    whole = tool in TOOLS and call.keys() == keys and all(isinstance(value, str) and value for value in call.values())
    return call if whole else None


def stands_in(order: str, message: str) -> bool:
    """Whether a message has this number of an order, not as a part of a longer one.

    >>> stands_in("A-104", "Where is A-104?"), stands_in("A-104", "Where is A-1042?")
    (True, False)
    """
    return re.search(rf"(?<![\w-]){re.escape(order)}(?![\w-])", message) is not None


def summary(conversation: Conversation) -> dict[str, Any]:
    """What a person who takes over has to know, as JSON values."""
    replies = [each for _, each in conversation.turns]
    return {
        "handed_over": conversation.ended,
        "orders": [each.evidence["row"] for each in replies if each.kind == "order"],
        "unanswered": [message for message, each in conversation.turns if each.kind in UNANSWERED],
        "refused_calls": sum(each.kind == "refused" for each in replies),
        "turns": [{"message": message, **each._asdict()} for message, each in conversation.turns],
    }


def _from_documents(found: Any) -> Reply:
    evidence = found._asdict()
    text, confidence = evidence.pop("text"), evidence.pop("confidence")
    if confidence < evidence["threshold"]:
        return Reply("unknown", "I do not know.", "documents", confidence, {"best_guess": text, **evidence})
    return Reply("answer", text, "documents", confidence, evidence)


def _from_orders(call: Mapping[str, str] | None, orders: Orders, message: str) -> tuple[str, str, dict]:
    """-> the kind of the reply, its text, and evidence beside the call."""
    if call is None:
        return "refused", UNCLEAR, {"fault": "it is no call"}
    if call["tool"] == "which_order":
        return "which_order", "Which order is it? Please give its number.", {}
    number = call["order"]
    if not stands_in(number, message):
        return "refused", UNCLEAR, {"fault": "the number does not stand in the message"}
    if number not in orders:
        return "unknown_order", f"There is no order {number}. Please check its number.", {}
    said = ", ".join(f"{name} {value}" for name, value in orders[number].items() if name != "order" and value)
    return "order", f"Order {number}: {said}.", {"row": dict(orders[number])}
