"""GSM8K as conversations of one exchange: a word problem, and its steps with the final number in a last line `#### 72`."""

import re
from collections.abc import Mapping
from typing import Any

from research.data import tfds_records
from research.data.text.conversations import Conversation, Parts, message

BEFORE = "#### "  # the final number
VALID = 500  # rows at the end of the published training part, which has no validation part
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def load(cfg: Mapping[str, Any]) -> Parts:
    """The published parts, with the last VALID training rows for validation. No key of `cfg` is read."""
    del cfg
    train, test = (
        [conversation(*(row[key].decode("utf-8") for key in ("question", "answer"))) for row in rows]
        for rows in (tfds_records.load("gsm8k", split) for split in ("train", "test"))
    )
    report = [f"source   gsm8k: {len(train) + len(test):,} problems, the last {VALID} of train to validate"]
    return Parts(train[:-VALID], train[-VALID:], report, test)


def conversation(question: str, answer: str) -> Conversation:
    """A problem and its answer, whose final number has no commas. The guess is the last number of the question.

    >>> conversation("Is 1 below 2?", "No.\\\\n#### 1,000").answer
    '1000'
    """
    steps, mark, final = answer.rpartition(BEFORE)
    reply = f"{steps}{mark}{final.replace(',', '').strip()}"
    numbers = [text.replace(",", "") for text in _NUMBER.findall(question)]
    guess = BEFORE + (numbers[-1] if numbers else "")
    return Conversation([message("user", question), message("assistant", reply)], "answer", guess, BEFORE)
