"""Every relative link and picture in the documents exists, with its heading; every excerpt of a file stands in that file."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*/README.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
EXCERPT = re.compile(r"^```py (\S+)\n(.*?)^```$", re.M | re.S)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def slugs(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCED.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    for target in LINK.findall(FENCED.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists():
            yield f"no file {target}"
        elif anchor and anchor not in slugs(file.read_text("utf-8")):
            yield f"no heading {target}"


@every_page
def test_every_link_leads_somewhere(page):
    assert list(dead_links(page)) == []


@every_page
def test_every_excerpt_stands_in_its_file(page):
    for name, code in EXCERPT.findall(page.read_text("utf-8")):
        assert code in (ROOT / name).read_text("utf-8"), f"{name} has not: {code}"


def test_every_page_and_picture_is_linked():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text("utf-8"))
    }
    assert [path.name for path in sorted((ROOT / "docs").iterdir()) if path.resolve() not in linked] == []


def test_the_page_of_commands_has_every_verb():
    assert set(re.findall(r"`almanac (\w+)`", (ROOT / "docs/commands.md").read_text("utf-8"))) == set(cli.VERBS)


def test_every_test_that_the_page_on_determinism_names_exists():
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)(\*?)`", (ROOT / "docs/determinism.md").read_text("utf-8"))
    assert named
    assert [name for name, star in named if f"def {name}{'' if star else '('}" not in sources] == []


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    text = "# A page, of `two`\n[here](#a-page-of-two) [there](#nowhere) ![one](no.png) [web](https://x.org)\n```\n[x](y)\n```\n"
    page.write_text(text)
    assert list(dead_links(page)) == ["no heading #nowhere", "no file no.png"]
