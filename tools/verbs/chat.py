"""`almanac chat RUN [--system TEXT] ...`"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from research.util import home
from research.util.errors import UserError
from research.util.escape import TEXT, visible
from research.util.files import write_text
from tools.verbs import arguments

COMMANDS = "/reset forgets the conversation, /save FILE appends it to a JSONL file, /quit ends"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="almanac chat",
        description="A conversation with a language model in the terminal, or with each line of a file or pipe as a message. "
        "Replies are streamed to stdout; counts of tokens and notes go to stderr.",
        epilog=f"{COMMANDS}. Ctrl-C ends a reply, or else the conversation.",
    )
    arguments.add_run(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--system", metavar="TEXT", help="a system text, before the conversation")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end a reply at this text; may be repeated"
    )
    parser.add_argument("--length", type=int, help="tokens of a reply, at most (default: a quarter of the context)")
    parser.add_argument("--temperature", type=float, help="0: the top-1 token (default: the config's sample group)")
    for name, kind in (("top_k", int), ("top_p", float), ("min_p", float), ("repetition_penalty", float)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    parser.add_argument(
        "--chat-template", type=Path, metavar="FILE", help="a Jinja template in place of the model's own"
    )
    args = vars(parser.parse_args(argv))

    import jax

    from research.run import reopen

    e, state, _ = reopen.load(args.pop("run"), args.pop("checkpoint"))
    if e.chat is None:
        raise UserError(f"{e.cfg.name} has no conversations; `almanac chat` is for language models")
    if not 0 <= (seed := args.pop("seed")) < 2**63:
        raise UserError(f"--seed={seed}: at least 0 and below 2**63")
    options = {key: value for key, value in args.items() if value not in (None, [])}
    talk = e.chat(e, state, jax.random.key(seed), **options)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _note(COMMANDS)
    while (line := _read(is_terminal)) is not None:
        try:
            if line.startswith("/"):
                if _command(talk, line):
                    break
            elif line.strip():
                _reply(talk, line.strip())
        except UserError as error:
            if not is_terminal:
                raise
            _note(str(error))
    return 0


def _read(is_terminal: bool) -> str | None:
    """The next line, without its end; None at the end of the input and on Ctrl-C."""
    try:
        return input("> " if is_terminal else "")
    except (EOFError, KeyboardInterrupt):
        if is_terminal:
            print()
        return None


def _reply(talk: Any, text: str) -> None:
    """Prints the reply as it comes, and its count of tokens. Ctrl-C ends it; the conversation keeps what was said."""
    with contextlib.closing(talk.reply(text)) as pieces:
        try:
            for piece in pieces:
                print(visible(piece, keep=TEXT), end="", flush=True)
        except KeyboardInterrupt:
            _note("stopped")
    print(flush=True)
    left_out = f"; the oldest {talk.dropped} exchanges left the context" if talk.dropped else ""
    _note(f"{talk.generated} tokens, {talk.context} of {talk.size:,}{left_out}")


def _command(talk: Any, line: str) -> bool:
    """Obeys a line that begins with "/" -> whether the conversation ends. Raises UserError for an unknown command."""
    name, _, rest = line.partition(" ")
    if name == "/quit" and not rest:
        return True
    if name == "/reset" and not rest:
        talk.reset()
    elif name == "/save" and rest.strip():
        _save(talk, rest.strip())
    else:
        raise UserError(f"no command {line!r}: {COMMANDS}; a message may begin with a space and then '/'")
    return False


def _save(talk: Any, name: str) -> None:
    """Appends the conversation to a file, a line as the data source `conversations` reads it."""
    if not any(message["role"] == "assistant" for message in talk.messages):
        raise UserError("/save: there is no reply yet")
    path = home.expanded(name, "/save")
    line = json.dumps({"messages": list(talk.messages)}, ensure_ascii=False) + "\n"
    try:
        before = path.read_text("utf-8") if path.exists() else ""
        write_text(path, before + ("\n" if before and not before.endswith("\n") else "") + line)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"/save {name}: {error}") from None
    _note(f"{len(talk.messages)} messages added to {path}")


def _note(text: str) -> None:
    print(f"almanac: {visible(text)}", file=sys.stderr, flush=True)
