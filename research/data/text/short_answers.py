"""Generated short answers to be graded: a question has a rubric of three points, and a score says how many an answer makes.

The questions ask three things of some animal and the rubric states them. An answer states some in other words, leaves some
out, says another value or denies the right one, and tells what was not asked. The score follows from that exactly. `second`
is the score of a grader who judges each point wrongly with probability `NOISE`, beside whom a model can be seen. Wordings are
few and all written below: agreement here shows that the code works, and not how people's answers are graded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

POINTS = 3
NOISE = 0.1
QUESTIONS = {"seen": 400, "unseen": 60}
ANSWERS = {"train": 10, "valid": 1, "test": 1, "unseen": 7}  # to each question of a part
SEPARATOR = " | "
_STATED, _LEFT_OUT, _OTHER, _DENIED = range(4)


class Thing(NamedTuple):
    """What a question may ask: how a statement of a value {v} reads, and the values, each in two wordings."""

    says: tuple[str, str, str]
    denies: str
    values: tuple[tuple[str, str], ...]


THINGS = (
    Thing(
        ("eats {v}", "feeds on {v}", "lives on {v}"), "never eats {v}",
        (("insects", "small bugs"), ("grass", "green plants"), ("fish", "what swims"), ("fruit", "ripe berries")),
    ),
    Thing(
        ("is found in {v}", "makes its home in {v}", "belongs in {v}"), "is not found in {v}",
        (("deserts", "dry sand"), ("forests", "the woods"), ("swamps", "wet marshes"), ("caves", "dark hollows")),
    ),
    Thing(
        ("is awake {v}", "moves about {v}", "comes out {v}"), "is not awake {v}",
        (("at night", "after dark"), ("at dawn", "when the sun rises"), ("at noon", "in bright light"), ("at dusk", "late")),
    ),
    Thing(
        ("raises its young {v}", "keeps its young {v}", "has its young {v}"),
        "does not raise its young {v}",
        (("in a burrow", "underground"), ("in a nest", "on twigs"), ("in a pouch", "in a fold"), ("on its back", "riding")),
    ),
    Thing(
        ("defends itself with {v}", "fights with {v}", "is safe thanks to {v}"), "lacks {v}",
        (("spines", "sharp needles"), ("poison", "a toxic bite"), ("a shell", "hard armour"), ("a stench", "a bad smell")),
    ),
    Thing(
        ("lives {v}", "spends its life {v}", "is seen {v}"), "does not live {v}",
        (("alone", "by itself"), ("in pairs", "with a partner"), ("in herds", "among many"), ("in families", "with parents")),
    ),
    Thing(
        ("survives winter by {v}", "bears the cold by {v}", "gets to spring by {v}"),
        "does not survive winter by {v}",
        (("sleeping", "hibernating"), ("going south", "migrating"), ("hoarding", "storing food"), ("fur", "a warm coat")),
    ),
)  # fmt: skip
FILLERS = (
    "i think this is right",
    "we had this in class",
    "that is all i know",
    "as the book says",
    "it is a nice animal",
)


class Answer(NamedTuple):
    """An answer, the points of the rubric that it is graded by, and the scores 0..POINTS of two graders."""

    rubric: tuple[str, ...]
    answer: str
    score: int
    second: int

    @property
    def text(self) -> str:
        return SEPARATOR.join((" . ".join(self.rubric), self.answer))


def answers(seed: int = 0) -> dict[str, list[Answer]]:
    """{part: its answers}: train, valid and test of the same questions, unseen of others. Pure; no answer occurs twice.

    >>> parts = answers()
    >>> parts["test"][0].rubric in {answer.rubric for answer in parts["train"]}
    True
    >>> {answer.rubric for answer in parts["unseen"]} & {answer.rubric for answer in parts["train"]}
    set()
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Answer]] = {part: [] for part in ANSWERS}
    questions: dict[frozenset, list[tuple[int, int]]] = {}  # [(thing, its right value)] by what they are in any order
    while len(questions) < sum(QUESTIONS.values()):
        points = [(int(i), int(rng.integers(len(THINGS[i].values)))) for i in rng.permutation(len(THINGS))[:POINTS]]
        questions.setdefault(frozenset(points), points)
    for i, points in enumerate(questions.values()):
        kept = ("train", "valid", "test") if i < QUESTIONS["seen"] else ("unseen",)
        rows = _of_question(rng, points, sum(ANSWERS[part] for part in kept))
        for part in kept:
            parts[part] += [rows.pop() for _ in range(ANSWERS[part])]
    return parts


def overlap(answer: Answer) -> int:
    """How many distinct words of the rubric the answer has."""
    return len(set(" ".join(answer.rubric).split()) & set(answer.answer.split()))


def by_overlap(train: Sequence[Answer], others: Sequence[Answer]) -> np.ndarray:
    """A score i[n] for each of `others`: the one whose training answers have, in the mean, the nearest number of rubric words."""
    words, scores = (np.array(column) for column in zip(*((overlap(a), a.score) for a in train), strict=True))
    means = np.array([words[scores == score].mean() for score in range(POINTS + 1)])
    return np.abs(np.array([overlap(a) for a in others])[:, None] - means).argmin(1)


_STATES = {
    f"it {form.format(v=wording)}": i
    for i, thing in enumerate(THINGS) for form in thing.says for value in thing.values for wording in value
}  # fmt: skip


def value_blind(rows: Sequence[Answer]) -> np.ndarray:
    """Of how many points each answer states a value, right or not, i[n]: the score of a grader who does not compare values."""
    asked = [{_STATES[f"it {point}"] for point in row.rubric} for row in rows]
    stated = [{_STATES.get(sentence) for sentence in row.answer.split(" . ")} for row in rows]
    return np.array([len(a & b) for a, b in zip(asked, stated, strict=True)])


def _of_question(rng: np.random.Generator, points: Sequence[tuple[int, int]], count: int) -> list[Answer]:
    """`count` answers to one question, no two alike."""
    others = [thing for i, thing in enumerate(THINGS) if i not in dict(points)]
    rubric = tuple(THINGS[i].says[0].format(v=THINGS[i].values[value][0]) for i, value in points)
    rows: dict[str, Answer] = {}
    while len(rows) < count:
        knows = rng.uniform(0.1, 1)  # the share of points that this answer makes
        fates = rng.choice(4, POINTS, p=[knows, *(np.array([0.4, 0.3, 0.3]) * (1 - knows))])
        said = [_statement(rng, THINGS[i], v, f) for (i, v), f in zip(points, fates, strict=True) if f != _LEFT_OUT]
        for _ in range(int(rng.integers(3))):
            thing = others[int(rng.integers(len(others)))]
            said.append(_statement(rng, thing, int(rng.integers(len(thing.values))), _STATED))
        said += [FILLERS[int(rng.integers(len(FILLERS)))]] * (not said or rng.random() < 0.3)
        text = " . ".join(said[i] for i in rng.permutation(len(said)))
        made = fates == _STATED
        second = made ^ (rng.random(POINTS) < NOISE)
        rows[text] = Answer(rubric, text, int(made.sum()), int(second.sum()))
    return list(rows.values())


def _statement(rng: np.random.Generator, thing: Thing, value: int, fate: int) -> str:
    if fate == _OTHER:
        value = (value + int(rng.integers(1, len(thing.values)))) % len(thing.values)
    form = thing.denies if fate == _DENIED else thing.says[int(rng.integers(3))]
    return f"it {form.format(v=thing.values[value][int(rng.integers(2))])}"
