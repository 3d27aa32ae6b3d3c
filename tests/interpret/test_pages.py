import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from research.interpret import pages
from research.util import figures, markup
from research.util.escape import visible


def test_a_page_loads_nothing_and_means_what_it_shows():
    words, scores = ["<b>", "good", "$x$"], np.array([-0.5, 2.0, 0.0])
    picture = pages.bars(words, scores, "a & b")
    html = pages.page("T & t", ["said <i>"], words, scores, {"bars": picture})
    assert "&lt;b&gt;" in html and "<b>" not in html and "said &lt;i&gt;" in html and "T &amp; t" in html
    assert "<script" not in html and not re.search(r'(src|href)="(?!data:)', html)
    colours = re.findall(r"rgba\((\d+),\d+,(\d+),([\d.]+)\)", html)
    (red0, blue0, share0), (red1, blue1, share1), (*_, share2) = [tuple(map(float, c)) for c in colours]
    assert blue0 > red0 and red1 > blue1  # lowers: blue; raises: red
    assert share2 == 0 and np.isclose(share0 * 4, share1, atol=4e-3)


@pytest.mark.parametrize(
    "text", ['"><script>alert(1)</script>', "' onmouseover='x", r"$\frac{$", "\x1b[2J\u202e", "\ud800"]
)
def test_names_of_strangers_are_text(text):
    words, shown = [text, "b"], visible(text)
    pictures = {text: pages.bars(words, np.ones(2), text), "heads": pages.heads(words, {text: np.ones((1, 2, 2))})}
    html = pages.page(text, [text], words, np.ones(2), pictures, apart=text)
    read = Read(html)
    assert {tag for tag, _ in read.elements} <= set(
        "html head meta title style body h1 h2 p span table tr td img".split()
    )
    assert {key for _, attrs in read.elements for key in attrs} <= set(
        "lang charset http-equiv content name class style title alt src".split()
    )
    assert read.text.count(shown) == 7  # title, heading, fact, word, gap, row of the table, name of a picture
    policies = [attrs["content"] for _, attrs in read.elements if "http-equiv" in attrs]
    assert html == visible(html, keep="\n") and policies == [markup.POLICY]


class Read(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("font", [True, False])
def test_chinese_words_stand_in_the_page_and_are_numbered_where_no_font_has_them(font, monkeypatch):
    words, scores = ["手机", "质量", "好"], np.array([0.1, -0.2, 0.3])
    monkeypatch.setattr(figures, "drawable", lambda text: font or text.isascii())
    named = []
    monkeypatch.setattr(figures, "label", lambda name, most=80: named.append(name) or "x")
    html = pages.page("t", [], words, scores, {"bars": pages.bars(words, scores, "a class"), "heads": b""})
    assert all(f">{word}</span>" in html and f"<td>{word}</td>" in html for word in words)
    assert named == ["a class", *(words if font else ["1", "2", "3"])]
    assert (pages.NO_FONT in html) == (not font) and ('<td class="n">3</td><td>好</td>' in html) == (not font)


def test_no_score_at_all_is_a_page_too():
    assert "none" in pages.page("t", [], ["none"], np.zeros(1))


def test_heads_have_a_picture_each():
    rng = np.random.default_rng(0)
    png = pages.heads([f"w{i}" for i in range(50)], {f"layer {i}": rng.random((3, 50, 50)) for i in range(2)})
    with Image.open(io.BytesIO(png)) as image:
        assert image.size[0] > 1.2 * image.size[1] > 200


def test_numbers_have_a_scale_each_and_the_frames_of_a_clip_one():
    """The largest of a scale is matplotlib's darkest red; of two maps the left one is a quarter of the right one."""
    maps = np.array([[[1.0, -0.1]], [[4.0, -0.1]]])
    for frames, dark in ((1, (True, True)), (2, (False, True))):
        png = pages.overlays(np.zeros((2, 1, 2, 1)), maps, ["left", "right"], frames)
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("RGB"))
        halves = np.array_split((pixels == (103, 0, 31)).all(-1), 2, axis=1)
        assert tuple(half.sum() > 1_000 for half in halves) == dark
