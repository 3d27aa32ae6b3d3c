"""Conversations: what one is, and the user's own, from a JSONL file.

A line is {"messages": [{"role": "system" or "user" or "assistant", "content": "..."}, ...]}: a system text if any, then turns
of the user and the assistant, one after the other, the last the assistant's.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from research.data import user_files
from research.data.tokenizers.roles import SPEAKERS
from research.util.errors import UserError

Message = Mapping[str, str]  # {"role", "content"}


class Conversation(NamedTuple):
    """Messages that end with the assistant's.

    kind    groups conversations whose last reply has one right form, and is compared with a model's; None: it has several
    guess   what a simple rule of the source replies
    before  what stands before the answer in the reply; empty: the answer is the whole reply
    """

    messages: Sequence[Message]
    kind: str | None = None
    guess: str = ""
    before: str = ""

    @property
    def reply(self) -> str:
        return self.messages[-1]["content"]

    @property
    def answer(self) -> str:
        return self.answer_in(self.reply)

    def answer_in(self, reply: str) -> str:
        """The part of a reply that is compared: what follows the last `before`, or nothing if it lacks that."""
        return reply if not self.before else reply.rpartition(self.before)[2] if self.before in reply else ""


class Parts(NamedTuple):
    """The conversations to train on, to validate on and, if a source has them, to test on."""

    train: list[Conversation]
    valid: list[Conversation]
    report: list[str]
    test: list[Conversation] | None = None


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def files(cfg: Mapping[str, Any]) -> Parts:
    """The user's file `cfg["path"]`; the last `valid_fraction` (0.1) of its lines is for validation.

    Raises UserError that names the file and the first line that is no conversation, and if there are fewer than two.
    """
    path = user_files.root(cfg)
    fraction = user_files.option(cfg, "valid_fraction", 0.1)
    if not 0 < fraction < 1:
        raise UserError(f"data.valid_fraction = {fraction}: above 0 and below 1")
    if not path.is_file():
        raise UserError(f"data.path = {path}: want one .jsonl file, a conversation a line")
    rows, unused = list[Conversation](), collections.Counter[str]()
    for place, row in user_files.json_lines(user_files.read(path)):
        if fault := row if isinstance(row, str) else fault_of(row.get("messages")):
            raise UserError(f"{path}, {place}: {fault}")
        assert isinstance(row, dict)
        unused.update(row.keys() - {"messages"})
        rows.append(Conversation([message(m["role"], m["content"]) for m in row["messages"]]))
    if len(rows) < 2:
        raise UserError(f"{path} has {len(rows)} conversations: want two or more, the last of which are for validation")
    held_out = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
    report = [f"source   {path}: {len(rows):,} conversations"]
    report += [f"ignored  the key {key!r} of {count:,} lines" for key, count in sorted(unused.items())]
    return Parts(rows[:-held_out], rows[-held_out:], report)


def fault_of(messages: Any) -> str:
    """What keeps `messages` from being a conversation that ends with a reply; empty if nothing does.

    >>> fault_of([{"role": "user", "content": "Hi"}])
    'it ends with a message of the user, where no reply is learnt from; leave that out'
    """
    if not isinstance(messages, list) or not messages:
        return 'want {"messages": [{"role": ..., "content": ...}, ...]}, one message or more'
    expected = "user"
    for number, each in enumerate(messages, 1):
        role, content = (each.get(key) for key in ("role", "content")) if isinstance(each, dict) else (None, None)
        if role not in SPEAKERS:
            return f"message {number} has the role {role!r}: want one of {', '.join(SPEAKERS)}"
        if unknown := sorted(each.keys() - {"role", "content"}):
            return f"message {number} has {unknown[0]!r} beside role and content; remove it"
        if not isinstance(content, str) or not content.strip():
            return f"message {number}, of the {role}, has no text under 'content'"
        if not user_files.whole_characters(content):
            return f"message {number} has half a surrogate pair"
        if role == "system":
            if number > 1:
                return f"message {number} is a system text: it stands first, or nowhere"
            continue
        if role != expected:
            return f"message {number} is of the {role}: user and assistant take turns, and the user begins"
        expected = "assistant" if role == "user" else "user"
    if messages[-1]["role"] != "assistant":
        return f"it ends with a message of the {messages[-1]['role']}, where no reply is learnt from; leave that out"
    return ""
