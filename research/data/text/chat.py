"""Conversations as text: chat templates in Jinja2's immutable sandbox, and the spans of the text that the assistant wrote.

A template is data: it converts messages to text, and has no access to files, to attributes that begin with an
underscore, or to anything else of Python. The `chat_template` strings of Hugging Face tokenizers are rendered as they
are there (trim_blocks, lstrip_blocks, tojson, raise_exception, break and continue, `{% generation %}`), except that
there is no strftime_now; pass a date as a variable.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jinja2
import jinja2.ext
import numpy as np
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from research.data import tokenizers, user_files
from research.data.tokenizers import roles
from research.util.errors import UserError

# OpenAI's ChatML. The assistant's spans include the end token: a model must learn to end its reply.
CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message['content'] + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
END = "<|im_end|>"  # ends a reply in ChatML
# The form for the markers of `tokenizers.roles`.
ROLES = """\
{%- for message in messages %}
{%- if message['role'] not in ['system', 'user', 'assistant'] %}
{{- raise_exception('the role ' + message['role'] + ': want system, user or assistant') }}
{%- endif %}
{{- '<|' + message['role'] + '|>' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}
{%- else %}{{ message['content'] + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
ENDS = {CHATML: END, ROLES: roles.END}

# Noncharacters during rendering: around the assistant's spans, and within a marker that a message holds.
_OPEN, _CLOSE, _GUARD = "\ufdd0", "\ufdd1", "\ufdd2"


class Rendered(NamedTuple):
    """A conversation's text, and the character spans [start, stop) that the assistant wrote."""

    text: str
    spans: list[tuple[int, int]]


def render(
    messages: Sequence[Mapping[str, Any]], template: str = CHATML, add_generation_prompt: bool = False, **variables: Any
) -> Rendered:
    """Messages {"role", "content", ...} -> their text. `variables` (bos_token, tools, ...) are JSON values.

    The spans are those that the template puts between `{% generation %}` and `{% endgeneration %}`. Without these
    tags, a span is the text that an assistant's message adds to the conversation before it with the generation prompt.
    Raises UserError if the template fails or rejects the messages.

    >>> text, spans = render([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
    >>> [text[start:stop] for start, stop in spans]
    ['Hello<|im_end|>']
    """
    plain = _plain(messages)
    variables = _values("variables", variables)
    marked = _text(template, plain, add_generation_prompt, variables)
    if "generation" in _tags(template):
        return _unmarked(marked)
    return Rendered(marked, _spans(template, plain, marked, variables))


def template_of(tokenizer: Any) -> str:
    """The template of a model with this tokenizer: `ROLES` if it has their markers, else ChatML."""
    return ROLES if set(roles.MARKERS) <= set(getattr(tokenizer, "added", ())) else CHATML


def prompt(messages: Sequence[Mapping[str, Any]], template: str, tokenizer: Any) -> tuple[str, np.ndarray]:
    """Messages -> their text up to the beginning of a reply, and its tokens i32[T].

    A marker that the template writes, and that is a token of the vocabulary, is that token; in a message it is characters:
    nobody ends a turn by writing how. The template's variables bos_token, eos_token, ... are the tokenizer's strings.
    """
    text = _render_guarded(messages, template, tokenizer, add_generation_prompt=True).text
    return text.replace(_GUARD, ""), _tokens(text, tokenizer)


def encode_messages(
    messages: Sequence[Mapping[str, Any]], template: str, tokenizer: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Messages -> tokens i32[T] and the loss mask f32[T], as `encode`. Markers in a message are characters, as in `prompt`."""
    return encode(_render_guarded(messages, template, tokenizer), tokenizer)


def _render_guarded(messages: Any, template: str, tokenizer: Any, **options: Any) -> Rendered:
    """The conversation, with `_GUARD` in the markers that its messages hold."""
    strings = {i: marker for marker, i in getattr(tokenizer, "added", {}).items()}
    variables = {f"{name}_token": strings[i] for name, i in tokenizer.special.items() if i in strings}
    plain = _plain(messages)
    if _GUARD in json.dumps(plain, ensure_ascii=False):
        raise UserError(f"messages hold U+{ord(_GUARD):04X}, which is no character")
    return render(_guarded(plain, _markers(tokenizer)), template, **options, **variables)


def _markers(tokenizer: Any) -> re.Pattern:
    markers = sorted(getattr(tokenizer, "added", ()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, markers)) or "$^")


def _tokens(text: str, tokenizer: Any) -> np.ndarray:
    """A rendered text -> i32[T], where the markers that the template wrote are tokens and guarded ones are characters."""
    if _GUARD not in text:
        return tokenizers.encode_with_added(tokenizer, text)
    marker, tokens = _markers(tokenizer), list[np.ndarray]()
    for piece, found in zip(marker.split(text), [*marker.findall(text), ""], strict=True):
        tokens.append(tokenizer.encode(piece.replace(_GUARD, "")))
        tokens.append(np.array([tokenizer.added[found]] if found else [], np.int32))
    return np.concatenate(tokens).astype(np.int32)


def _guarded(value: Any, marker: re.Pattern) -> Any:
    """JSON's values with the markers in their texts made unlike the template's."""
    if isinstance(value, str):
        return marker.sub(lambda m: f"{m[0][0]}{_GUARD}{m[0][1:]}", value)
    if isinstance(value, list):
        return [_guarded(item, marker) for item in value]
    return {key: _guarded(item, marker) for key, item in value.items()} if isinstance(value, dict) else value


def encode(rendered: Rendered, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """-> tokens i32[T] and the loss mask f32[T], 1 for the assistant's tokens. Markers that are added tokens are those.

    The text is cut at the ends of each span and the parts are encoded separately, because at inference the prompt is
    encoded without the reply. So no token crosses the end of a span.
    """
    cuts = [0, *(at for span in rendered.spans for at in span), len(rendered.text)]
    texts = [rendered.text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    parts = [_tokens(text, tokenizer) for text in texts]
    mask = [np.full(len(part), i % 2, np.float32) for i, part in enumerate(parts)]
    return np.concatenate(parts).astype(np.int32), np.concatenate(mask)


def load(path: str | Path) -> list[dict]:
    """The messages of a JSON file, [{"role": ..., "content": ...}, ...]. Raises UserError if it has another form."""
    return _plain(user_files.json_value(path))


def _plain(messages: Any) -> list[dict]:
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError('messages: want a list of {"role": ..., "content": ...}, at least one')
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UserError(f'message {i}: want {{"role": "user" or another, "content": ...}}, not {message!r}')
    return _values("messages", messages)


def _values(what: str, value: Any) -> Any:
    """A copy of JSON's own types: a template gets no object with other methods."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as e:
        raise UserError(f"{what}: {e}") from None
    if _OPEN in text or _CLOSE in text:
        raise UserError(f"{what} hold U+{ord(_OPEN):04X} or U+{ord(_CLOSE):04X}, which are no characters")
    return json.loads(text)


def _text(template: str, messages: list[dict], prompt: bool, variables: Mapping) -> str:
    try:
        return _compiled(template).render(messages=messages, add_generation_prompt=prompt, **variables)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as e:
        raise UserError(f"chat template: {' '.join(str(e).split()) or type(e).__name__}") from None


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


@functools.lru_cache(maxsize=8)
def _tags(template: str) -> set[str]:
    """The names of the template's {% tags %}."""
    tokens = list(_environment().lex(template))
    after = [i + 1 for i, (_, kind, _) in enumerate(tokens) if kind == "block_begin"]
    words = [next((value for _, kind, value in tokens[i:] if kind != "whitespace"), "") for i in after]
    return set(words)


def _unmarked(marked: str) -> Rendered:
    """Removes the marks and returns their spans. A nested block belongs to the outer one."""
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
    """`{% generation %} ... {% endgeneration %}`: marks the text between."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


class _Namespace(Namespace):
    """Jinja's, without names that begin with an underscore, through which a template could escape the sandbox."""

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
    """Plain JSON; Jinja's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    numbers = environment.globals["range"]  # the sandbox's own, of bounded length
    environment.globals = {"namespace": _Namespace, "raise_exception": _raise, "range": numbers}
    return environment
