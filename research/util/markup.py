"""HTML pages: every element is made by `tag`, which escapes whatever is not `Markup`. A page loads nothing and runs no script."""

import base64
from html import escape

from research.util.escape import TEXT, visible

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_VOID = {"img", "meta"}  # elements without an end


class Markup(str):
    """HTML that is not escaped again: what `tag` made, or a constant of ours. Joined or formatted it is plain text again."""


def tag(name: str, /, *children: str, **attributes: str | None) -> Markup:
    """One element. Children that are not Markup and all values of attributes are escaped.

    An attribute that is None is left out; `class_` stands for class, `aria_label` for aria-label.
    """
    words = [name, *(f'{_name(key)}="{_text(value)}"' for key, value in attributes.items() if value is not None)]
    return Markup(f"<{' '.join(words)}>" + ("" if name in _VOID else f"{join(*children)}</{name}>"))


def join(*parts: str, by: str = "") -> Markup:
    """The parts one after the other with `by` between them, escaped where they are not Markup."""
    return Markup(_text(by).join(part if isinstance(part, Markup) else _text(part) for part in parts))


def image(png: bytes, text: str) -> Markup:
    """A PNG picture inside the page; `text` stands for it where pictures are not shown."""
    return tag("img", alt=text, src=f"data:image/png;base64,{base64.b64encode(png).decode()}")


def page(title: str, css: str, *body: str) -> str:
    """A whole page with the style sheet `css`, which is a constant of ours. Its policy forbids scripts and loading."""
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(css)),
        by="\n",
    )
    html = tag("html", join("\n", tag("head", head), "\n", tag("body", join(*body, by="\n")), "\n"), lang="en")
    return f"<!doctype html>\n{html}\n"


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(text: str) -> str:
    return escape(visible(text, keep=TEXT))
