"""`almanac helpdesk --reader RUN --documents FOLDER --orders FILE --caller RUN --mood RUN`: a shop's customer service."""

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Sequence

from experiments.customer_service import orders, page
from experiments.customer_service.conversation import Conversation, Parts, summary
from research.data import user_files
from research.run import object_store
from research.util import home
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from research.util.files import write_text
from tools.verbs import ask, helpdesk_parts

PASSAGES = 5  # read for a question, as `almanac ask` does by default


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac helpdesk",
        description="A conversation of a shop's customer service: answers from documents, looks orders up, and hands over to a "
        "person who is not happy. Each reply is followed by the part that gave it, how sure it was, and its evidence.",
    )
    run = functools.partial(object_store.fetch, newest=False)
    parser.add_argument("--reader", required=True, type=run, metavar="RUN", help="of question_answering")
    parser.add_argument("--documents", required=True, metavar="FOLDER", help="of .txt and .md files to answer from")
    parser.add_argument("--retriever", default="bm25", metavar="bm25|RUN", help="how passages are retrieved")
    parser.add_argument("--caller", required=True, type=run, metavar="RUN", help="of language_model/service_calls")
    parser.add_argument("--orders", required=True, metavar="FILE", help="a .csv, .tsv or .jsonl with a column order")
    parser.add_argument("--mood", required=True, type=run, metavar="RUN", help="of text_classification")
    parser.add_argument(
        "--unhappy", default="unhappy", metavar="CLASS", help="the class to hand over (default: unhappy)"
    )
    parser.add_argument(
        "--false-alarms", type=float, default=0.05, metavar="SHARE",
        help="of the others on validation, at most, that are handed over (default: 0.05)",
    )  # fmt: skip
    parser.add_argument("--messages", metavar="FILE", help="a message a line (default: read from the terminal)")
    parser.add_argument("--page", metavar="FILE", help="write the conversation as an HTML page")
    parser.add_argument(
        "--summary", metavar="FILE", help="where a hand-over writes its summary, JSON (default: print it)"
    )
    parser.add_argument(
        "--measure", action="store_true", help="print how often the parts are right on held-out messages"
    )
    args = parser.parse_args(argv)
    if not 0 <= args.false_alarms < 1:
        raise UserError(f"--false-alarms={args.false_alarms}: a share, from 0 to below 1")
    table, skipped = orders.read(args.orders)
    messages = user_files.lines(user_files.read(args.messages)) if args.messages else None
    caller, mood = helpdesk_parts.Caller(args.caller), helpdesk_parts.Mood(args.mood, args.unhappy, args.false_alarms)
    if args.measure:
        print(visible("\n".join(helpdesk_parts.measured(caller, mood)), keep=TEXT))
        return 0
    found = ask.Documents(args.reader, "best", args.documents, args.retriever, PASSAGES)
    for line in skipped:
        print(f"left out {visible(line)}", file=sys.stderr)
    talk = _talk(Conversation(Parts(mood, mood.threshold, caller, table, found.find)), messages)
    if args.page:
        _write(args.page, "--page", page.page(talk))
    if talk.ended:
        _write(args.summary, "--summary", json.dumps(summary(talk), indent=1, ensure_ascii=False) + "\n")
    return 0


def _talk(talk: Conversation, messages: Sequence[str] | None) -> Conversation:
    """Replies to each message until there is none, or the conversation is handed over. In a terminal a mistake ends nothing."""
    is_terminal = messages is None and sys.stdin.isatty()
    for message in _typed(is_terminal) if messages is None else filter(str.strip, messages):
        if messages is not None:
            print(f"> {visible(message)}")
        try:
            talk = talk.then(message.strip())
        except UserError as error:
            if not is_terminal:
                raise
            print(f"almanac: {visible(str(error))}", file=sys.stderr)
            continue
        reply = talk.turns[-1][1]
        print(f"{visible(reply.text, keep=TEXT)}\n  {visible(page.why(reply))}")
        if talk.ended:
            break
    return talk


def _typed(is_terminal: bool) -> Iterator[str]:
    """Messages from the terminal, or the lines of a pipe, until the end of the input or Ctrl-C."""
    while True:
        try:
            message = input("> " if is_terminal else "")
        except (EOFError, KeyboardInterrupt):
            if is_terminal:
                print()
            return
        if message.strip():
            yield message


def _write(name: str | None, option: str, text: str) -> None:
    """Writes a file, or prints the text if none is given."""
    if name is None:
        print(visible(text, keep=TEXT), end="")
        return
    path = home.expanded(name, option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{option}={name}: {error.strerror or error}") from None
