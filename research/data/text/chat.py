"""Conversations as text: a template in Jinja2's language, in its immutable sandbox, and what of the text is the assistant's.

A template is data: it reads the messages and makes text; it reaches no file, no attribute that begins with an
underscore, and nothing of Python beyond. The strings that Hugging Face tokenizers carry as `chat_template` read here
as there (trim_blocks, lstrip_blocks, tojson, raise_exception, break and continue, `{% generation %}`), but for the clock:
there is no strftime_now; give a date as a variable.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jinja2
import jinja2.ext
import numpy as np
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from research.util.errors import UserError

# OpenAI's ChatML. The assistant's part is its words and the mark that ends them: it must learn to end.
CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message['content'] + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
END = "<|im_end|>"  # where a reply in ChatML stops

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: around what the assistant says, while it is rendered


class Rendered(NamedTuple):
    """A conversation's text, and the [start, stop) of its characters that the assistant wrote."""

    text: str
    spans: list[tuple[int, int]]


def render(
    messages: Sequence[Mapping[str, Any]], template: str = CHATML, add_generation_prompt: bool = False, **variables: Any
) -> Rendered:
    """Messages {"role", "content", ...} -> their text. `variables` (bos_token, tools, ...) are JSON values.

    The spans are what the template puts between `{% generation %}` and `{% endgeneration %}`. Where it has no such
    tags, they are what each assistant's message adds to the conversation before it with the generation prompt.
    UserError for a template that fails, or that refuses these messages.
    """
    plain = _plain(messages)
    variables = _values("variables", variables)
    marked = _text(template, plain, add_generation_prompt, variables)
    if "generation" in _tags(template):
        return _unmarked(marked)
    return Rendered(marked, _spans(template, plain, marked, variables))


def encode(rendered: Rendered, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """-> tokens i32[T], and 1 where the assistant wrote them f32[T]: the loss mask.

    The text is cut where a span begins or ends, and the parts are encoded alone: at inference, too, the prompt is
    encoded without the reply, and no token is half the user's.
    """
    cuts = [0, *(at for span in rendered.spans for at in span), len(rendered.text)]
    parts = [tokenizer.encode(rendered.text[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    mask = [np.full(len(part), i % 2, np.float32) for i, part in enumerate(parts)]
    return np.concatenate(parts).astype(np.int32), np.concatenate(mask)


def load(path: str | Path) -> list[dict]:
    """The messages of a JSON file, [{"role": ..., "content": ...}, ...]."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"cannot read {path} as JSON: {e}") from None
    return _plain(found)


def _plain(messages: Any) -> list[dict]:
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError('messages: want a list of {"role": ..., "content": ...}, at least one')
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UserError(f'message {i}: want {{"role": "user" or another, "content": ...}}, not {message!r}')
    return _values("messages", messages)


def _values(what: str, value: Any) -> Any:
    """A copy made of JSON's own types: no object with methods of its own comes before a template."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as e:
        raise UserError(f"{what}: {e}") from None
    if _OPEN in text or _CLOSE in text:
        raise UserError(f"{what} hold U+{ord(_OPEN):04X} or U+{ord(_CLOSE):04X}, which are no characters")
    return json.loads(text)


def _text(template: str, messages: list[dict], prompt: bool, variables: Mapping) -> str:
    try:
        compiled = _environment().from_string(template)
        return compiled.render(messages=messages, add_generation_prompt=prompt, **variables)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as e:
        raise UserError(f"chat template: {' '.join(str(e).split()) or type(e).__name__}") from None


def _tags(template: str) -> set[str]:
    """The names of the template's {% tags %}."""
    tokens = list(_environment().lex(template))
    after = [i + 1 for i, (_, kind, _) in enumerate(tokens) if kind == "block_begin"]
    words = [next((value for _, kind, value in tokens[i:] if kind != "whitespace"), "") for i in after]
    return set(words)


def _unmarked(marked: str) -> Rendered:
    """Takes the marks out, and tells where they were. A block inside another is the outer one's."""
    text, spans, depth, start = "", [], 0, 0
    for character in marked:
        if character == _OPEN:
            start = len(text) if not depth else start
            depth += 1
        elif character == _CLOSE:
            depth -= 1
            if not depth:
                spans.append((start, len(text)))
        else:
            text += character
    return Rendered(text, spans)


def _spans(template: str, messages: list[dict], text: str, variables: Mapping) -> list[tuple[int, int]]:
    spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _text(template, messages[:i], True, variables) if i else ""
        after = _text(template, messages[: i + 1], False, variables)
        if not (after.startswith(before) and text.startswith(after)):
            raise UserError(
                f"chat template: message {i} changes the text before it, so that its own part cannot be told; "
                "put {% generation %} and {% endgeneration %} around what the assistant says"
            )
        spans.append((len(before), len(after)))
    return spans


class _Generation(jinja2.ext.Extension):
    """`{% generation %} ... {% endgeneration %}`: marks what is inside."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


class _Namespace(Namespace):
    """Jinja's, without names that begin with an underscore: through them the sandbox could be left."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *others = args
        for name in dict(*others, **values):
            _refuse_underscore(name)
        Namespace.__init__(self, *others, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: str) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not hold {name!r}")


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
):
    """JSON as it is, where Jinja's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    numbers = environment.globals["range"]  # the sandbox's own, of bounded length
    environment.globals = {"namespace": _Namespace, "raise_exception": _raise, "range": numbers}
    return environment
