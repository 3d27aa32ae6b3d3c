"""Generated conversations whose answers stand in the conversation itself: nothing to download, and what is right is known.

Facts (a word or a number that the user tells) and sentences of Python's language reference are told, sometimes corrected, and
asked for later. The last question is of one of four kinds:

    recall     one of several facts, told some turns before
    follow_up  the same, in a question that only the question before completes ("And my room?")
    form       a fact, in the form that a system text asks for
    quote      the sentence that was told of one of two topics, word for word

Numbers, words and topics are split by a checksum of their text: those of validation occur in no training conversation.
"""

import functools
import platform
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np

from research.data import user_files
from research.data.text.conversations import Conversation, Message, Parts, message
from research.util.errors import UserError

KINDS = ("recall", "follow_up", "form", "quote")
NUMBERED = ("order", "room", "ticket", "flight", "table", "locker")
NAMED = ("password", "project", "team", "street", "boat", "horse")
TELL = ("My {thing} is {value}.", "Note that my {thing} is {value}.", "{value} is my {thing}.")
ASK = ("What is my {thing}?", "Tell me my {thing}.", "Do you know my {thing}?")
QUOTE = ("What is said about {thing}?", "Quote what I told you of {thing}.")
SMALL_TALK = (("Thank you.", "You are welcome."), ("Hello!", "Hello."), ("How are you?", "I am well."))
FORMS: Mapping[str, Callable[[str, str], str]] = {  # a system text: (sentence, value) -> the answer
    "Answer with the value alone.": lambda sentence, value: value,
    "Answer in capitals.": lambda sentence, value: sentence.upper(),
    "End every answer with over.": lambda sentence, value: f"{sentence} Over.",
}
SIZES = {"train": 8_000, "valid": 400}
SENTENCE = (20, 80)  # characters, at least and at most


class Material(NamedTuple):
    """What a part's conversations are about: values of facts, and sentences by topic."""

    numbers: list[str]
    words: list[str]
    sentences: dict[str, list[str]]


def load(cfg: Mapping[str, Any], seed: int = 0) -> Parts:
    """The conversations of both parts, a pure function of `seed` and of Python's version.

    `cfg["conversations"]` of them are to train on, 8,000 if it is None. Raises UserError if it is not a positive number.
    """
    wanted = user_files.option(cfg, "conversations", SIZES["train"])
    if wanted < 1:
        raise UserError(f"data.conversations = {wanted}: 1 or more")
    sizes = SIZES | {"train": wanted}
    parts = {part: [conversation(part, i, seed) for i in range(size)] for part, size in sizes.items()}
    report = [f"source   pydoc_dialogues: generated from the reference of Python {platform.python_version()}"]
    for part in SIZES:
        numbers, words, sentences = material(part)
        report.append(
            f"         {part}: {len(numbers):,} numbers, {len(words):,} words, {len(sentences)} topics of its own"
        )
    return Parts(parts["train"], parts["valid"], report)


def conversation(part: str, index: int, seed: int = 0) -> Conversation:
    """Conversation `index` of a part: the kinds come in turn."""
    rng = np.random.default_rng((seed, list(SIZES).index(part), index))
    kind = KINDS[index % len(KINDS)]
    made = _quote(rng, material(part)) if kind == "quote" else _facts(rng, material(part), kind)
    *messages, guess = made
    return Conversation(messages, kind, guess)


@functools.cache
def material(part: str) -> Material:
    text = " ".join(topics.values())
    words = sorted(set(re.findall(r"(?<![\w\\])[a-z]{4,8}(?!\w)", text)))
    sentences = {_title(name): _sentences(topics[name]) for name in sorted(topics)}
    if part == "valid":  # topics share sentences
        known = {s for title, found in sentences.items() if _part(title) == "train" for s in found}
        sentences = {title: [s for s in found if s not in known] for title, found in sentences.items()}
    return Material(
        [n for n in map(str, range(1_000, 10_000)) if _part(n) == part],
        [word for word in words if _part(word) == part],
        {title: found for title, found in sentences.items() if found and _part(title) == part},
    )


def _part(text: str) -> str:
    return "train" if zlib.crc32(text.encode()) % 10 else "valid"


def _title(name: str) -> str:
    """The heading of a topic, within a sentence: 'The "try" statement' is 'the try statement'."""
    first = re.sub(r'["*]', "", topics[name].lstrip().split("\n")[0])
    return first[:1].lower() + first[1:]


def _sentences(text: str) -> list[str]:
    """Plain sentences of a topic's paragraphs, no shorter and no longer than SENTENCE."""
    prose = (p for p in re.split(r"\n\s*\n", text) if not p.startswith((" ", "*", "+", "|")) and "::=" not in p)
    each = (s for p in prose for s in re.split(r"(?<=\.) (?=[A-Z])", " ".join(p.split())))
    low, high = SENTENCE
    return [s for s in each if low <= len(s) <= high and re.fullmatch(r"[A-Z][ -~]*\.", s) and s.count('"') % 2 == 0]


def _facts(rng: np.random.Generator, has: Material, kind: str) -> Iterator[Any]:
    """The messages of facts that are told and asked for, and at last the guess: the value that was told last."""
    system = _choice(rng, list(FORMS)) if kind == "form" else ""
    form = FORMS.get(system, lambda sentence, value: sentence)
    numbered = system == "Answer in capitals."  # a word in capitals has other tokens than the word
    names = rng.permutation(NUMBERED if numbered else NUMBERED + NAMED)[: rng.integers(2, 4)].tolist()
    values: dict[str, str] = {}
    if system:
        yield message("system", system)
    for name in [*names, *(names[:1] if rng.random() < 0.25 else [])]:  # the first may be corrected
        told = _choice(rng, TELL).format(thing=name, value="{value}")
        values[name] = latest = _choice(rng, has.numbers if name in NUMBERED else has.words)
        yield from _exchange(told.format(value=latest), form("Noted.", "Noted."))
    if rng.random() < 0.3:
        said, answer = SMALL_TALK[rng.integers(len(SMALL_TALK))]
        yield from _exchange(said, answer)
    asked = rng.permutation(names).tolist()
    questions = [_choice(rng, ASK).format(thing=asked[0])]
    if kind == "follow_up":
        questions.append(f"And my {asked[1]}?")
    for question, name in zip(questions, asked, strict=False):
        yield from _exchange(question, form(f"Your {name} is {values[name]}.", values[name]))
    yield form(f"Your {name} is {latest}.", latest)


def _quote(rng: np.random.Generator, has: Material) -> Iterator[Any]:
    """The messages of two topics' sentences that are told and asked for, and at last the guess: the sentence told last."""
    names = rng.permutation(list(has.sentences))[:2].tolist()
    told = {name: _choice(rng, has.sentences[name]) for name in names}
    for name in names:
        yield from _exchange(f"Of {name}: {told[name]}", "Noted.")
    first, second = rng.permutation(names).tolist()
    yield from _exchange(_choice(rng, QUOTE).format(thing=first), told[first])
    if rng.random() < 0.5:
        yield from _exchange(f"And about {second}?", told[second])
    yield told[names[-1]]


def _exchange(said: str, answer: str) -> list[Message]:
    return [message("user", said), message("assistant", answer)]


def _choice(rng: np.random.Generator, options: Any) -> str:
    return options[int(rng.integers(len(options)))]
