"""The sentences of scenes: captions, and what of a caption is true."""

import itertools
import re
from typing import NamedTuple

from experiments.captions.scenes import COLOURS, SHAPES, SIZES, Object, Scene

RELATIONS = {
    "left of": lambda a, b: a.x < b.x,
    "right of": lambda a, b: a.x > b.x,
    "above": lambda a, b: a.y < b.y,
    "below": lambda a, b: a.y > b.y,
}
OBJECT = re.compile(rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
RELATION = re.compile("|".join(RELATIONS))
CAPTION = re.compile(rf"{OBJECT.pattern}( ({RELATION.pattern}) {OBJECT.pattern})*")


def caption(scene: Scene) -> str:
    """The objects from left to right, and between neighbours the relation along the axis that separates them more.

    >>> caption((Object("large", "red", "circle", 10, 20), Object("small", "blue", "cross", 30, 25)))
    'a large red circle left of a small blue cross'
    """
    words = [f"a {scene[0].size} {scene[0].colour} {scene[0].shape}"]
    for a, b in itertools.pairwise(scene):
        words.append(f"{relation(a, b)} a {b.size} {b.colour} {b.shape}")
    return " ".join(words)


def relation(a: Object, b: Object) -> str:
    """The relation of RELATIONS in which a stands to b, along the axis that separates them more."""
    if abs(a.x - b.x) > abs(a.y - b.y):
        return "left of" if a.x < b.x else "right of"
    return "above" if a.y < b.y else "below"


class Judgement(NamedTuple):
    """Of a caption: the share of its statements that are true, and of the scene's objects those that it names; 0..1."""

    true: float
    named: float


def judge(text: str, scene: Scene) -> Judgement:
    """A caption, in any order. Its statements are its objects and the relations between neighbours in the text.

    An object that is named again is a false statement, and so is a relation of what the scene has not. A text outside the
    grammar states nothing that is true.
    """
    if not CAPTION.fullmatch(text):
        return Judgement(0.0, 0.0)
    objects = {o[:3]: o for o in scene}  # no two of a scene have the same colour and shape
    phrases, relations = OBJECT.findall(text), RELATION.findall(text)
    named = len(set(phrases) & objects.keys())
    true = sum(
        a in objects and b in objects and RELATIONS[name](objects[a], objects[b])
        for (a, b), name in zip(itertools.pairwise(phrases), relations, strict=True)
    )
    return Judgement((named + true) / (len(phrases) + len(relations)), named / len(scene))
