"""Questions about scenes, with answers of one word. Each is drawn with a scene that it can be asked of.

    colour, shape, size   what colour is the object left of the red circle
    count                 how many circles are there; how many red objects are there
    exists                is there a red circle

The one object that the first three are about is found by its relation to another. What the words of a question give away of its
answer is measured: "question alone", a baseline of the data set.
"""

from collections.abc import Callable

import numpy as np

from experiments.captions.grammar import RELATIONS
from experiments.captions.scenes import COLOURS, HELD_OUT, SHAPES, TRAINING, Scene, compose, draw_pairs

COUNTS = ("zero", "one", "two")
PLURALS = {**{colour: f"{colour} objects" for colour in COLOURS}, **{shape: f"{shape}s" for shape in SHAPES}}
PLURALS["cross"] = "crosses"

Asked = tuple[Scene, str, str]  # scene, question, answer


def attribute(name: str, rng: np.random.Generator, novel: bool) -> Asked:
    """The colour, shape or size of the only object on one side of another. If `novel`, one of the two is of HELD_OUT."""
    while True:
        scene = compose(rng, draw_pairs(rng, novel))
        questions = [
            (relation, other, targets[0])
            for other in scene
            for relation, holds in RELATIONS.items()
            if len(targets := [o for o in scene if holds(o, other)]) == 1
            if not novel or {other.pair, targets[0].pair} & set(HELD_OUT)
        ]
        if questions:
            relation, other, target = questions[rng.integers(len(questions))]
            question = f"what {name} is the object {relation} the {other.colour} {other.shape}"
            return scene, question, getattr(target, name)


def count(rng: np.random.Generator, novel: bool) -> Asked:
    """How many objects have a colour or a shape: all colours, shapes and numbers of COUNTS are equally frequent."""
    value, number = list(PLURALS)[rng.integers(len(PLURALS))], int(rng.integers(len(COUNTS)))
    while True:
        pairs = draw_pairs(rng, novel)
        if sum(value in pair for pair in pairs) == number:
            return compose(rng, pairs), f"how many {PLURALS[value]} are there", COUNTS[number]


def exists(rng: np.random.Generator, novel: bool) -> Asked:
    """Whether an object is there, yes as often as no: one of TRAINING; if `novel` one of HELD_OUT."""
    known = HELD_OUT if novel else TRAINING
    pairs, yes = draw_pairs(rng, novel), bool(rng.integers(2))
    asked = [pair for pair in known if (pair in pairs) == yes]
    colour, shape = asked[rng.integers(len(asked))]
    return compose(rng, pairs), f"is there a {colour} {shape}", "yes" if yes else "no"


def _attribute(name: str) -> Callable[[np.random.Generator, bool], Asked]:
    return lambda rng, novel: attribute(name, rng, novel)


KINDS = {**{name: _attribute(name) for name in ("colour", "shape", "size")}, "count": count, "exists": exists}
