"""A run directory of a stranger: nothing in it runs in the page, leaves the directory or is drawn as something else."""

import json
import os
import re
from html.parser import HTMLParser

import pytest

from research.util.errors import UserError
from research.util.escape import visible
from tools import cli
from tools.verbs import report

HOSTILE = {
    "script": '"><script>alert(1)</script>',
    "handler": "' onmouseover='alert(1)' x='",
    "svg": "</text></svg><img src=x onerror=alert(1)>",
    "comment": "--><!--",
    "terminal": "\x1b[31mred\x1b[0m\x07\x9b2J",
    "order": "a\u202eb\u2066c",
    "formula": r"$\frac{$ and $x$",
    "hidden": "_x",
    "surrogate": "\ud800",
    "lines": "a\nb\rc\0d",
    "colour": 'width="1pt" #33312e font: "x\'y;',
    "long": "x" * 5_000,
}
ELEMENTS = set(
    "html head meta title style body main header h1 h2 small p i ul li dl dt dd div section figure figcaption table thead "
    "tbody tr th td pre details summary img svg g path text defs use clippath rect".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name class style alt src role aria-label viewbox id d transform clip-path "
    "xlink:href x y width height".split()
)


class Page(HTMLParser):
    """The elements, attributes and text of a page, as a browser takes them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.text = set(), {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        for key, value in attrs:
            self.attributes.setdefault(key, []).append(value)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def hostile(tmp_path, make_run):
    """hostile(text) -> a run with that text in every field of every file."""

    def make(text):
        metric = {text: 0.5, "loss": 1.0}
        logged = [(step, split, metric | {"loss": step / 2}) for step in (1, 2) for split in (text, "train")]
        attempt = {
            "step": 1,
            "config": text,
            "when": text,
            "commit": text,
            "devices": text,
            "changed": [text],
            "edited": [text],
        }
        about = {"versions": {text: text}, "commit": text, "devices": text, "attempts": [attempt, attempt]}
        run = make_run(tmp_path / "run", logged, name=text, config={text: text, "group": {text: [text]}}, **about)
        said = {
            "lines": [text, f"{text}  {text}"],
            "baselines": {f"{text}/loss": {text: 1.5}, f"train/{text}": {text: 0.1}},
            "final": {f"{text}/{text}": 0.25},
            "units": {"loss": text, text: text},
        }
        (run / "report.json").write_text(json.dumps(said))
        (run / "samples").mkdir()
        name = visible(text).replace("/", "_")[:200]
        (run / "samples" / f"{name}.txt").write_text(text, encoding="utf-8", errors="replace")
        (run / "samples" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        return run

    return make


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_page_shows_it_as_text(hostile, text):
    run = hostile(text)
    source = report.write([run]).read_text(encoding="utf-8")
    page = Page(source)
    assert page.elements <= ELEMENTS and page.attributes.keys() <= ATTRIBUTES
    assert all(re.match("data:image/png;base64,[A-Za-z0-9+/=]+$", value) for value in page.attributes["src"])
    assert all(value.startswith("#") for value in page.attributes.get("xlink:href", []))
    assert source == visible(source, keep="\n\t")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.attributes["content"][0]
    shown = visible(text, keep="\n\t")
    cells = page.text
    assert cells.count(f"{shown}/{shown}") == 2  # among the numbers: above and in the table
    assert {shown, f"{shown}/loss", f"train/{shown}", f"group.{shown}", f"{shown} {shown}", f"{shown} 1.5"} <= {*cells}
    assert f"loss, {shown}" in page.attributes["aria-label"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_picture_is_drawn(hostile, text):
    picture = report.write([hostile(text)]).with_name("curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


@pytest.mark.parametrize("text", [HOSTILE["script"], HOSTILE["formula"]], ids=["script", "formula"])
def test_several_runs(hostile, make_run, tmp_path, text):
    other = make_run(tmp_path / "other", [(1, "train", {"loss": 1.0}), (2, "train", {"loss": 2.0})])
    page = Page(report.write([hostile(text), other], tmp_path / "out").read_text())
    assert page.elements <= ELEMENTS and page.attributes.keys() <= ATTRIBUTES
    assert f"Samples of {text}" in page.text


def test_a_command_to_copy_is_quoted(make_run, tmp_path):
    run = make_run(
        tmp_path / "run", [(1, "train", {"loss": 1.0})], name="a; rm -rf ~", commit="--upload-pack=x; reboot"
    )
    text = Page(report.write([run]).read_text()).text
    (command,) = [one for one in text if one.startswith("./almanac train")]
    assert command.startswith("./almanac train 'a; rm -rf ~'") and not any("git checkout" in one for one in text)


def test_a_name_is_not_taken_for_a_path(make_run, tmp_path):
    """The name of a config, where it ends in .json, is not the file that it is compared with."""
    (tmp_path / "secret.json").write_text(json.dumps({"config": {"seed": "secret", "optim": {"peak_lr": 0.1}}}))
    run = make_run(tmp_path / "run", [(1, "train", {"loss": 1.0})], name=str(tmp_path / "secret.json"))
    assert "--config.seed" not in report.write([run]).read_text()


@pytest.mark.parametrize("values", [(5e-324, 1e99), (-1e308, 1e308), (1e-300, 2.0), (0, 1e100), (10**300, 1)])
def test_values_of_any_size_are_drawn(make_run, tmp_path, values):
    logged = [(2**53 - step, "train", {"loss": value}) for step, value in zip((1, 0), values, strict=True)]
    run = make_run(tmp_path / "run", logged)
    row = {"step": 2**53, "seconds": 1e300, "examples_per_s": values[1], "mfu": 10**300}
    (run / "timing.jsonl").write_text(json.dumps(row) + "\n")
    (run / "report.json").write_text(
        json.dumps({"baselines": {"train/loss": {"a": 1e308}}, "final": {"train/loss": 10**300}})
    )
    assert "1.000e300".replace("1.000", "1") in report.write([run]).read_text()


# Links


LOGGED = [(1, "train", {"loss": 2.0}), (2, "train", {"loss": 1.0})]


def test_a_link_in_place_of_what_is_written_is_replaced(make_run, tmp_path):
    run, victim = make_run(tmp_path / "run", LOGGED), tmp_path / "victim"
    victim.write_text("mine")
    for name in ("report.html", "curves.png", "report.html.part", "curves.png.part"):
        (run / name).symlink_to(victim)
    report.write([run])
    assert victim.read_text() == "mine"
    assert "<!doctype html>" in (run / "report.html").read_text() and not (run / "curves.png").is_symlink()


def test_a_sample_that_leads_out_is_named_and_not_shown(make_run, tmp_path):
    run = make_run(tmp_path / "run", LOGGED)
    (tmp_path / "secret").write_text("the secret")
    (run / "samples").mkdir()
    (run / "samples" / "step_1.txt").write_text("a sample")
    (run / "samples" / "step_2.txt").symlink_to("../../secret")
    (run / "samples" / "step_3.png").symlink_to(tmp_path / "secret")
    os.mkfifo(run / "samples" / "step_4.txt")
    text = report.write([run]).read_text()
    assert "the secret" not in text and "dGhlIHNlY3JldA" not in text and "a sample" in text
    assert text.count("a link that leads out of the run directory") == 2 and "step_4.txt: no regular file" in text


@pytest.mark.parametrize("name", ["samples", "config.json", "metrics.jsonl", "timing.jsonl", "report.json"])
def test_other_links_that_lead_out_are_refused(make_run, tmp_path, name):
    run, other = make_run(tmp_path / "run", LOGGED), tmp_path / "other"
    if (run / name).exists():
        (run / name).rename(other)
    else:
        other.write_text("{}")
    (run / name).symlink_to(other)
    with pytest.raises(UserError, match=f"{name}: a link that leads out of the run directory"):
        report.write([run])
    assert not (run / "report.html").exists()


# --out


def test_out_that_cannot_be_a_folder(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "run", LOGGED)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    for out, fault in (("file", "File exists"), ("file/deeper", "Not a directory"), ("taken", "Is a directory")):
        assert cli.main(["report", str(run), f"--out={tmp_path / out}"]) == 2
        err = capsys.readouterr().err
        assert err.startswith("almanac: ") and fault in err and str(tmp_path / out) in err and err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
