"""Names in pictures are shown as they are."""

import io
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from research.util import figures


def drawn(text):
    """What stands in a picture whose title is `text`."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure, out = Figure((2, 1)), io.BytesIO()
        figure.text(0, 0, text)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    texts = ElementTree.fromstring(out.getvalue()).iter("{http://www.w3.org/2000/svg}text")
    return "".join(one.text for one in texts)


@pytest.mark.parametrize("name", ["$x$", r"$\frac{$", r"a\$b$c", "$$", "a_b^c", r"\alpha", "<&>"])
def test_dollars_make_no_formula(name):
    assert drawn(figures.label(name)) == name


def test_a_formula_would_have_been_made():
    assert drawn("$x$") != "$x$"


def test_control_characters_are_shown_and_long_names_cut():
    assert figures.label("a\x1b\nb") == r"a\x1b\nb"
    assert figures.label("x" * 200) == "x" * 77 + "..." and figures.label("x" * 80) == "x" * 80


def test_what_no_font_has_is_written_as_code_points(monkeypatch):
    """Whole characters are cut; an SVG whose text stays text is drawn by the browser's fonts."""
    monkeypatch.setattr(figures, "_code_points", lambda: frozenset(range(127)))
    assert figures.label("好 a") == r"\u597d a" and figures.drawable("a") and not figures.drawable("a好")
    assert figures.label("好" * 9, 16) == r"\u597d\u597d..."
    with mpl.rc_context({"svg.fonttype": "none"}):
        assert figures.label("好 a") == "好 a"


def test_no_box_is_drawn_whatever_fonts_there_are():
    figure = Figure((2, 1))
    figure.text(0, 0, figures.label("好 \U0001f600 ü"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        figures.png(figure)


def test_a_legend_has_a_name_with_an_underscore():
    figure = Figure((2, 1))
    axes = figure.add_subplot()
    axes.plot([0, 1], label=figures.label("_rare"))
    assert [text.get_text() for text in axes.legend().get_texts()] == [" _rare"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "other").write_bytes(b"mine")
    (tmp_path / "a.png").symlink_to("other")
    figures.save(Figure((1, 1)), tmp_path / "a.png")
    assert (tmp_path / "other").read_bytes() == b"mine" and not (tmp_path / "a.png").is_symlink()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
