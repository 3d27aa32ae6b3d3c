"""Synthetic question answering: fact sheets of invented products and questions on them, from a small grammar.

A passage states facts of one product and a few of another by the same maker: to answer, a model must distinguish the two.
Names of products, places and people are composed of syllables, and no name is in two parts of the data, so that a model
has to read them and cannot memorise them. The text is far from natural English: a score on it shows that the code works,
not how good a model is.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_ONSETS = "B Br D Dr F G Gr H K Kl L M N P R S St T Tr V Z".split()
_VOWELS = "a e i o u ai ei or an il".split()
_MIDDLES = "b d g k l ld lm m n nd r rn s st t v".split()
_ENDS = "a ar el en er ia ik in is o on um us".split()
_THINGS = "lamp kettle chair radio clock drill scale heater mixer tent stove bicycle".split()
_COLOURS = "dark green,light blue,deep red,matt black,pale grey,bright yellow,warm white,soft pink".split(",")
_MATERIALS = "brushed steel,solid oak,recycled plastic,cast iron,tempered glass,light aluminium,woven linen".split(",")
PARTS = ("train", "valid", "test")


class Fact(NamedTuple):
    """Templates of its statements, of a subject {s} and a value {v}, and of its questions on a product {p}; draws a value."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    value: Callable[["Dice"], str]


class Question(NamedTuple):
    """A question on a passage; the answer begins at character `start` of the passage."""

    question: str
    answer: str
    start: int


class Dice:
    """Random choices for one part of the data: `name` never returns a name of another part."""

    def __init__(self, seed: int, part: str):
        self._rng = np.random.default_rng((seed, PARTS.index(part)))
        self._part = part

    def of(self, items) -> str:
        return items[int(self._rng.integers(len(items)))]

    def some(self, items: list, least: int, most: int) -> list:
        order = self._rng.permutation(len(items))[: int(self._rng.integers(least, most + 1))]
        return [items[i] for i in order]

    def number(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def name(self) -> str:
        while True:
            name = self.of(_ONSETS) + self.of(_VOWELS) + self.of(_MIDDLES) + self.of(_ENDS)
            if zlib.crc32(name.encode()) % len(PARTS) == PARTS.index(self._part):
                return name

    def product(self) -> str:
        return f"{self.name()} {self.of(_THINGS)}"


FACTS = {
    "price": Fact(
        ("{s} costs {v}.", "The price of {s} is {v}."),
        ("How much does the {p} cost?", "What is the price of the {p}?"),
        lambda d: f"{d.number(5, 900)} euros",
    ),
    "warranty": Fact(
        ("{s} is under warranty for {v}.", "The warranty of {s} ends after {v}."),
        ("How long is the {p} under warranty?", "After how long does the warranty of the {p} end?"),
        lambda d: f"{d.number(6, 60)} months",
    ),
    "weight": Fact(
        ("{s} weighs {v}.", "The weight of {s} is {v}."),
        ("How much does the {p} weigh?", "What is the weight of the {p}?"),
        lambda d: f"{d.number(2, 99)} kilograms",
    ),
    "delivery": Fact(
        ("{s} is delivered within {v}.", "Delivery of {s} takes {v}."),
        ("How fast is the {p} delivered?", "How long does delivery of the {p} take?"),
        lambda d: f"{d.number(2, 30)} working days",
    ),
    "returns": Fact(
        ("{s} may be sent back for {v}.", "Returns of {s} are accepted for {v}."),
        ("For how long may the {p} be sent back?", "How long are returns of the {p} accepted?"),
        lambda d: f"{d.number(2, 20)} weeks",
    ),
    "colour": Fact(
        ("{s} comes in {v}.", "The colour of {s} is {v}."),
        ("In which colour does the {p} come?", "What colour is the {p}?"),
        lambda d: d.of(_COLOURS),
    ),
    "material": Fact(
        ("{s} is built from {v}.", "The frame of {s} is {v}."),
        ("What is the {p} built from?", "Which material is the frame of the {p}?"),
        lambda d: d.of(_MATERIALS),
    ),
    "place": Fact(
        ("{s} is made in {v}.", "The factory of {s} stands in {v}."),
        ("Where is the {p} made?", "In which town is the {p} made?"),
        lambda d: d.name(),
    ),
    "designer": Fact(
        ("{s} was designed by {v}.", "The designer of {s} is {v}."),
        ("Who designed the {p}?", "Who is the designer of the {p}?"),
        lambda d: f"{d.name()} {d.name()}",
    ),
    "help": Fact(
        ("Help with {s} is given at {v}.", "Call {v} for help with {s}."),
        ("Which number gives help with the {p}?", "Whom do I call for help with the {p}?"),
        lambda d: f"0800 {d.number(100, 999)} {d.number(100, 999)}",
    ),
}


def passages(part: str, count: int, seed: int = 0) -> list[tuple[str, str, list[Question]]]:
    """`count` passages of a part ("train", "valid", "test"): (maker, passage, questions on it); pure in its arguments.

    Each maker has five passages. A passage has three or four questions, on either of its products. No fact of a
    product is stated twice, and the other product's facts are mostly of the same kinds as the first's.

    >>> maker, passage, questions = passages("train", 1)[0]
    >>> all(passage[q.start :].startswith(q.answer) for q in questions)
    True
    """
    dice, sheets = Dice(seed, part), list[tuple[str, str, list[Question]]]()
    while len(sheets) < count:
        maker = f"{dice.name()} {dice.of(('Works', 'Brothers', 'and Sons', 'Limited'))}"
        products = [dice.product() for _ in range(5)]
        kinds = [dice.some(list(FACTS), 5, 7) for _ in products]
        for i, product in enumerate(products):
            facts = [(product, kind) for kind in kinds[i]]
            # Kinds that the other product's own passage lacks; preferably those that this passage states of its product.
            unused = [kind for kind in FACTS if kind not in kinds[i - 1]]
            shared = [kind for kind in unused if kind in kinds[i]]
            facts += [(products[i - 1], kind) for kind in dice.some(shared or unused, 1, 2)]
            sheets.append((maker, *_passage(dice, f"The {product} is a product of {maker}.", product, facts)))
    return sheets[:count]


def _passage(dice: Dice, text: str, product: str, facts: list[tuple[str, str]]) -> tuple[str, list[Question]]:
    questions = []
    for about, kind in facts:
        fact = FACTS[kind]
        value, sentence = fact.value(dice), dice.of(fact.statements)
        short = about == product and sentence.startswith("{s}") and dice.number(0, 2) > 0
        sentence = sentence.format(s="it" if short else f"the {about}", v="\0")
        sentence = sentence[0].upper() + sentence[1:]
        start = len(text) + 1 + sentence.index("\0")
        text += " " + sentence.replace("\0", value)
        questions.append(Question(dice.of(fact.questions).format(p=about), value, start))
    return text, dice.some(questions, 3, 4)
