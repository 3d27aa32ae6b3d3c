"""What is no Markup is text, wherever it stands in a page."""

from html.parser import HTMLParser

import pytest

from research.util import markup
from research.util.markup import Markup, tag

HOSTILE = ['"><script>alert(1)</script>', "' onmouseover='alert(1)", "</style><script>", "&lt;b&gt;", "<!--"]


class Read(HTMLParser):
    """The elements of a text with their attributes, and what stands between them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_attributes_come_back_as_they_were(text):
    read = Read(tag("p", text, title=text))
    assert read.elements == [("p", {"title": text})] and read.text == text
    read = Read(markup.join(text, tag("b", text), by=text))
    assert read.elements == [("b", {})] and read.text == 3 * text


def test_markup_stays_and_what_is_made_of_it_by_other_means_does_not():
    assert tag("p", tag("b", "x")) == "<p><b>x</b></p>"
    assert tag("p", f"{tag('b', 'x')}") == tag("p", tag("b", "x") + "") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert tag("p", Markup("<i>")) == "<p><i></p>"


def test_names_of_attributes_and_elements_without_an_end():
    assert tag("i", class_="n", aria_label="a", id=None) == '<i class="n" aria-label="a"></i>'
    assert markup.image(b"x", '"') == '<img alt="&quot;" src="data:image/png;base64,eA==">'


def test_control_characters_are_shown():
    assert tag("p", "a\x1b\u202e\n", title="\0\ud800") == '<p title="\\x00\\ud800">a\\x1b\\u202e\n</p>'


def test_a_page_forbids_scripts_and_loading():
    read = Read(markup.page(HOSTILE[0], "p { margin: 0 }", tag("p", "x")))
    policies = [a["content"] for kind, a in read.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policies[0].split("; "))
    assert len(policies) == 1 and rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert "script-src" not in rules and rules["base-uri"] == rules["form-action"] == "'none'"
    assert "script" not in [kind for kind, _ in read.elements]
    places = [kind for kind, _ in read.elements]
    assert places.index("meta") < places.index("style")  # a policy holds for what comes after it
