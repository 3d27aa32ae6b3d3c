"""Generated messages to a shop's service: each with the call that it asks for, and whether its writer is unhappy.

A message is a request, often between other sentences. A request asks for the state of an order, by its number or without one,
or what documents may answer. It is unhappy if one of its other sentences is. Numbers of orders are split by a checksum, and
sentences by hand: those of the parts "valid" and "test" beside their numbers occur in no other part. Half of their messages
take requests and sentences of training, so that what is new in a message can be told apart.

The language is small: a score on it shows that the parts work together, not how well they would serve people.
"""

import itertools
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.data.text import synthetic_qa
from research.data.text.conversations import Conversation, Parts, message

SIZES = {"train": 24_000, "valid": 600, "test": 1_200}
CLASSES = ("calm", "unhappy")
TOOLS = ("order_status", "which_order", "documents")
TAUGHT = ("order_status", "which_order", "order_status", "documents")  # in training: to copy a number is the hard part
MOST = 46  # characters of a call, at most, and so tokens

# Requests and other sentences of the parts, one a line.
_ORDER = {
    "train": """Where is my order {order}?
What is the status of order {order}?
Has order {order} been sent?
When will {order} arrive?
I am waiting for order {order}.
Could you look up {order} for me?
My order number is {order}.
{order}
It is {order}.
Please check order {order}.
Is {order} on its way?
Can you tell me where {order} is?
I ordered something, the number is {order}.
Order {order} has not come yet.
How far is order {order}?
Did you send {order} already?""",
    "valid": """Any news about {order}?
Number {order}, please.
I would like to know when order {order} comes.
What happened to {order}?""",
    "test": """Do you know when I get {order}?
Please find out about my parcel, it has the number {order}.
Track {order}.
The order in question is {order}.
Is there anything new on order {order}?
The mail says {order}, but where is it?""",
}
_NO_NUMBER = {
    "train": """Where is my order?
When will my order arrive?
Has my order been sent?
What is the status of my order?
Can you look up my order?
Is my order on its way?
My order has not come yet.
I am waiting for my order.
Could you check my order for me?
Did you send my order already?""",
    "valid": """Any news about my order?
I would like to know when my order comes.""",
    "test": """Do you know when I get my order?
Please find out where my order is.
Is there anything new on my order?""",
}
_QUESTION = {
    "train": """Can I pay by card?
How can I pay?
How do I return something?
When are you open?
Do you deliver on Saturdays?
How much is delivery?
Who pays for a return?
Where is your shop?
Do you have a catalogue?
Which lamps do you sell?
Can I change my address?
How long does delivery take?
What is the warranty?
Do you repair kettles?
Can I pay later?
Is there a discount?
Hello.
Thank you.""",
    "valid": """What does shipping cost?
Can I collect it in the shop?
May I pay in cash?""",
    "test": """Do you accept bank transfers?
How long may I keep an item before I send it back?
Are you open on Sundays?
What do I do with a broken lamp?
Good morning.""",
}
_CALM = {
    "train": """Hello.
Hi there.
Thank you.
Good morning.
I hope you can help me.
I bought it last week.
It is a present for my sister.
No hurry.
Thanks for your help.
I am just curious.
Have a nice day.
I was at work all day.
I like your shop.
It was the blue one.
I paid by card.
My neighbour told me about you.""",
    "valid": """Hello again.
It is for my kitchen.
Many thanks.
I have a small question.""",
    "test": """Good evening.
My son chose it.
That would be kind.
I look forward to it.
We are moving in May.""",
}
_UNHAPPY = {
    "train": """This is unacceptable.
I am very angry.
I have been waiting for weeks and nobody answers.
This is the third time I ask.
Your service is terrible.
I want my money back now.
What a waste of money.
I am so disappointed in you.
Nobody cares about customers here.
I will never buy from you again.
You lied to me.
It arrived broken again.
I am fed up with this.
How can a shop be this bad?
Worst shop ever.
This is ridiculous.
I am losing my patience.
You keep ignoring my mails.
Stop wasting my time.
I have had enough.
It is useless and you know it.
I hate this.""",
    "valid": """I am furious.
This is a terrible experience.
You never answer my mails.
My patience is gone.
I was promised help and nobody came.
What a ridiculous shop.""",
    "test": """This makes me really angry.
I have called five times and nobody helps.
You should be ashamed.
Never again will I buy here.
It is broken, as always.
I want a refund, this is a joke.
So much wasted time.
I am sick of excuses.""",
}


class Message(NamedTuple):
    """A text, the call that it asks for, whether its writer is unhappy, and whether its request is one of training."""

    text: str
    call: Mapping[str, str]
    unhappy: bool
    known: bool


def draw(part: str, seed: int = 0) -> list[Message]:
    """The messages of "train", "valid" or "test", a pure function of `seed`.

    >>> first = draw("valid")[0]
    >>> first.call["order"] in first.text
    True
    """
    rng = np.random.default_rng((seed, list(SIZES).index(part)))
    tools = itertools.cycle(TAUGHT if part == "train" else TOOLS)
    known = itertools.cycle([True] if part == "train" else [False, True])
    return [_message(rng, part, next(tools), next(known)) for _ in range(SIZES[part])]


def schema(orders: Sequence[str] | None = None) -> dict[str, Any]:
    """The JSON schema of a call: of any order, or of one of `orders`."""
    order = {"type": "string", "minLength": 1, "maxLength": 12} if orders is None else {"enum": list(orders)}
    calls: list[dict[str, Any]] = [{"tool": {"const": tool}} for tool in TOOLS]
    calls[0]["order"] = order
    if orders is not None and not orders:
        calls = calls[1:]
    forms = [{"type": "object", "properties": c, "required": list(c), "additionalProperties": False} for c in calls]
    return {"anyOf": forms}


def numbers(text: str) -> list[str]:
    """What in a text may be the number of an order: each word of letters, digits and hyphens that has a digit, once.

    >>> numbers("A-1042, or A-1042? On the 3rd.")
    ['A-1042', '3rd']
    """
    return list(dict.fromkeys(re.findall(r"[A-Za-z0-9-]*[0-9][A-Za-z0-9-]*", text)))


def as_text(call: Mapping[str, str]) -> str:
    """A call as the text that a model learns: JSON without spaces."""
    return json.dumps(call, separators=(",", ":"))


def dialogues(cfg: Mapping[str, Any]) -> Parts:
    """Conversations of one message and its call, whose kind is the call's tool, with "_new" for a request not in training."""
    del cfg
    talks = {part: [_conversation(each) for each in draw(part)] for part in SIZES}
    return Parts(talks["train"], talks["valid"], ["source   service_messages: generated"], talks["test"])


def _conversation(each: Message) -> Conversation:
    kind = each.call["tool"] + ("" if each.known else "_new")
    return Conversation([message("user", each.text), message("assistant", as_text(each.call))], kind)


def _message(rng: np.random.Generator, part: str, tool: str, known: bool) -> Message:
    source, unhappy = "train" if known else part, bool(rng.integers(2))
    call = {"tool": tool}
    if tool == "order_status":
        call["order"] = _number(rng, part)
    request = _request(rng, tool, source, call)
    others = [_line(rng, _CALM, source) for _ in range(rng.integers(0, 2 if unhappy else 3))]
    others += [_line(rng, _UNHAPPY, source)] * unhappy
    sentences = [*others, request]
    order = rng.permutation(len(sentences))
    return Message(" ".join(sentences[i] for i in order), call, unhappy, known)


def _request(rng: np.random.Generator, tool: str, source: str, call: Mapping[str, str]) -> str:
    if tool == "order_status":
        return _line(rng, _ORDER, source).format(order=call["order"])
    if tool == "which_order":
        return _line(rng, _NO_NUMBER, source)
    if rng.integers(2):
        return _line(rng, _QUESTION, source)
    dice = synthetic_qa.Dice(int(rng.integers(1 << 30)), source)
    fact = synthetic_qa.FACTS[dice.of(list(synthetic_qa.FACTS))]
    return dice.of(fact.questions).format(p=dice.product())


def _number(rng: np.random.Generator, part: str) -> str:
    """A number as A-1042: a tenth of them are for validation, and a tenth for the test."""
    while True:
        number = f"{chr(65 + rng.integers(26))}-{rng.integers(10_000):04}"
        place = zlib.crc32(number.encode()) % 10
        if part == {0: "valid", 1: "test"}.get(place, "train"):
            return number


def _line(rng: np.random.Generator, lines: Mapping[str, str], part: str) -> str:
    options = lines[part].splitlines()
    return options[int(rng.integers(len(options)))]
