import json
import re
import struct
from html.parser import HTMLParser

import pytest

from research.core import config
from research.run import run_logs
from research.util.errors import UserError
from tools.results import curves
from tools.verbs import report

LOGGED = [
    (10, "train", {"loss": 3.0}),
    (10, "valid", {"loss": 2.5, "accuracy": 0.25}),
    (20, "train", {"loss": 2.0}),
    (20, "valid", {"loss": 1.7512, "accuracy": 0.5}),
    (30, "train", {"loss": 1.0}),
    (30, "valid", {"loss": 1.8125, "accuracy": 0.375}),
]


class Page(HTMLParser):
    """The page's tables, and every address that a browser would load from."""

    def __init__(self, path):
        super().__init__()
        self.rows, self.loads, self.tags = [], [], set()
        self.cell = False
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        elif self.cell:
            self.rows[-1].append("")
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "data")]

    def handle_endtag(self, tag):
        self.cell = False

    def handle_data(self, data):
        if self.cell:
            self.rows[-1][-1] += data


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_one_run(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED)
    (run / "report.json").write_text(
        json.dumps(
            {
                "lines": ["unigram <baseline>"],
                "baselines": {"valid/loss": {"unigram": 3.01}},
            }
        )
    )
    page = Page(report.write([run]))
    assert page.rows[:3] == [
        ["metric", "final", "best", "at step", "baselines"],
        ["valid/loss", "1.812", "1.751", "20", "unigram 3.01"],
        ["valid/accuracy", "0.3750", "0.5000", "20", ""],
    ]
    assert ["optim.peak_lr", "0.1"] in page.rows
    for fact in ("1,234 parameters", "abc1234", "1 min 30 s", "jax 0.10.2", "unigram &lt;baseline"):
        assert fact in page.text
    assert "./almanac train toy/small" in page.text


def test_what_had_changed_between_attempts(tmp_path, make_run):
    first = {"step": 0, "config": "a", "when": "2026-11-26 20:00:00 UTC", "commit": "abc", "changed": [], "edited": []}
    second = {"step": 8, "config": "b", "changed": ["optim.peak_lr: 0.1 -> 0.2"], "edited": ["research/core/step.py"]}
    logged = [(10, "valid", {"loss": 1.0})]
    page = report.write([make_run(tmp_path / "one", logged, attempts=[first])]).read_text()
    assert "from step" not in page
    page = report.write([make_run(tmp_path / "two", logged, attempts=[first, second])]).read_text()
    assert "<td>8</td><td>-</td><td>-</td><td>-</td>" in page
    assert "<td>optim.peak_lr: 0.1 -&gt; 0.2; research/core/step.py edited</td>" in page


def test_page_loads_nothing_and_runs_nothing(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED, commit='"><script>alert(1)</script>')
    samples = run / "samples"
    samples.mkdir()
    (samples / "step_10.txt").write_text('<img src="http://example.org/x.png"> & more')
    (samples / "step_9.txt").write_text("nine")
    (samples / "step_10.png").write_bytes(curves.png([run_logs.read(run)]))
    page = Page(report.write([run]))
    assert "&lt;img src=&quot;http://example.org/x.png&quot;&gt; &amp; more" in page.text
    assert page.text.index("step_10.txt") < page.text.index("step_9.txt")  # newest first
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert len(page.loads) == 1
    outside = [u for u in re.findall(r"url\(([^)]*)\)|@import", page.text) if not u.startswith("#")]
    assert outside == []


def test_several_runs_differ(tmp_path, make_run):
    a = make_run(tmp_path / "a", LOGGED)
    b = make_run(tmp_path / "b", LOGGED[:4], config={"seed": 0, "optim": {"peak_lr": 0.2}, "x": 1})
    page = Page(report.write([a, b], tmp_path / "out"))
    differs = [r for r in page.rows if r[0] in ("seed", "optim.peak_lr", "x") and len(r) == 3]
    assert differs == [["optim.peak_lr", "0.1", "0.2"], ["x", "(absent)", "1"]]
    assert ["valid/loss", "a", "1.812", "1.751", "20"] in page.rows
    assert ["", "b", "1.751", "1.751", "20"] in page.rows
    assert not (a / "report.html").exists()


def test_curves_show_runs_splits_and_baselines(tmp_path, make_run):
    a = make_run(tmp_path / "a", LOGGED)
    (a / "report.json").write_text(json.dumps({"baselines": {"valid/loss": {"unigram": 3.01}}}))
    runs = [run_logs.read(a), run_logs.read(make_run(tmp_path / "b", LOGGED))]
    assert curves.panels(runs) == ["loss", "accuracy", "examples_per_s"]
    assert [label for label, _, _ in curves.key(runs)] == ["a", "b", "valid", "train"]
    drawn = curves.svg(runs, "loss", wide=True)
    assert "unigram 3.01" in drawn
    assert "var(--hue0)" in drawn and "var(--hue1)" in drawn and "http" not in drawn
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)  # every colour follows the page's scheme


def test_chosen_metrics_alone_are_drawn(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED)
    assert report.main([str(run), "--metrics=accuracy, loss", f"--out={tmp_path / 'out'}"]) == 0
    drawn = re.findall('aria-label="([^"]*)"', (tmp_path / "out" / "report.html").read_text())
    assert drawn == ["accuracy", "accuracy", "loss"]  # the first one for wide and for narrow pages
    with pytest.raises(UserError, match="--metrics: no curve of 'acuracy'; did you mean 'accuracy'?"):
        report.write([run], tmp_path / "absent", ["acuracy"])
    assert not (tmp_path / "absent").exists()


def test_png(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED)
    path = report.write([run]).with_name("curves.png")
    width, height = png_size(path)
    assert width == 1280 and 600 < height < 2000
    assert path.stat().st_size > 10_000


def test_same_runs_same_bytes(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED)
    first = [report.write([run], tmp_path / "out").read_bytes()]
    first.append((tmp_path / "out" / "curves.png").read_bytes())
    second = [report.write([run], tmp_path / "out").read_bytes()]
    second.append((tmp_path / "out" / "curves.png").read_bytes())
    assert first == second


def test_odd_logs_are_drawn(tmp_path, make_run):
    """One point, nothing finite, negative values and a name with markup in it."""
    run = make_run(
        tmp_path / "run",
        [
            (0, "test", {"$a_<b>": 1.0}),
            (0, "train", {"loss": None, "elbo": -2000.0}),
            (5, "train", {"loss": None, "elbo": -1e-5}),
        ],
    )
    page = Page(report.write([run]))
    assert ["test/$a_<b>", "1", "", ""] in page.rows  # no best on test data
    assert ["train/elbo", "\u22121e\u22125", "\u22121e\u22125", "5"] in page.rows
    assert ["train/loss", "nan", "", ""] in page.rows


def test_long_log_stays_light(tmp_path, make_run):
    logged = [(s, "train", {"loss": 1 + (s * 7919 % 100) / 100}) for s in range(20_000)]
    page = report.write([make_run(tmp_path / "run", logged)])
    assert page.stat().st_size < 500_000


def test_half_a_last_line_is_left_out(tmp_path, make_run):
    run = make_run(tmp_path / "run", LOGGED)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "split": "va')
    assert run_logs.read(run).series["valid/loss"][-1] == (30, 1.8125)


def test_bad_input(tmp_path, make_run):
    with pytest.raises(UserError, match="absent.*no such directory"):
        report.write([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="config.json: no such file"):
        report.write([tmp_path / "empty"])
    with pytest.raises(UserError, match="metrics.jsonl: holds no metrics"):
        report.write([make_run(tmp_path / "new", [])])
    run = make_run(tmp_path / "damaged", LOGGED)
    (run / "metrics.jsonl").write_text('oops\n{"step": 1}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl, line 1: not JSON \(.*\): 'oops'; line 2: 'split' is missing"):
        report.write([run])


def test_command_names_overrides_and_uncommitted_changes(tmp_path, make_run, monkeypatch):
    named = {"optim": {"peak_lr": 0.1, "name": "adamw"}, "num_steps": 10}
    monkeypatch.setattr(config, "from_module", lambda name: named)
    changed = {"optim": {"peak_lr": 0.3, "name": "a b"}, "num_steps": 10}
    run = make_run(tmp_path / "run", LOGGED, config=changed, commit="abc+")
    assert report.command(run_logs.read(run)) == (
        "git checkout abc  # and changes that were not committed\n"
        "./almanac train toy/small --config.optim.peak_lr=0.3 '--config.optim.name=a b'"
    )


def test_best_knows_its_side():
    points = [(1, 2.0), (2, 1.0), (3, float("nan"))]
    assert report.best("valid/gen_loss", points) == (2, 1.0)
    assert report.best("valid/answer_f1", points) == (1, 2.0)
    assert report.best("valid/ndcg@10", points) == (1, 2.0)
    assert report.best("train/grad_norm", points) is None  # neither side is better
    assert report.best("test/loss", points) is None  # nothing is chosen on test data


def test_main(tmp_path, make_run, capsys):
    run = make_run(tmp_path / "run", LOGGED)
    assert report.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "curves.png").exists()
