"""Files of a run directory that were edited or damaged: one line that names the file and the fault, never a traceback."""

import hashlib
import json
import shutil
from unittest.mock import Mock

import pytest

from research.data.text.classification import TextClassification
from research.run.metric_log import RunLogger
from research.util.errors import UserError
from tools import cli
from tools.verbs import ask

TINY = "language_model/tiny"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 60
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two steps on a small text."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert cli.main(["train", TINY, *changes(folder), f"--workdir={folder / 'run'}"]) == 0
    return folder / "run"


def changes(folder):
    values = ["data.source=files", f"data.path={folder / 'text.txt'}", "num_steps=2", "optim.warmup=1", "log_every=1"]
    return [f"--config.{value}" for value in values]


@pytest.fixture
def run(trained, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def refused(run, trained, capsys):
    """refused(verb) -> the one line of the error; nothing in the run is changed."""

    def call(verb):
        words = {
            "train": [TINY, *changes(trained.parent), f"--workdir={run}"],
            "replay": [str(run), "--step=2"],
            "show": [str(run / "config.json")],
            "predict": [str(run), str(trained.parent / "text.txt")],
        }.get(verb, [str(run)])
        was = everything(run)
        capsys.readouterr()
        assert cli.main([verb, *words]) == 2
        err = capsys.readouterr().err
        assert err.startswith("almanac: ") and err.count("\n") == 1 and "Traceback" not in err
        assert everything(run) == was
        return err

    return call


def everything(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def edited(path, change):
    about = json.loads(path.read_text())
    change(about)
    return json.dumps(about)


def spoil(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


BROKEN = {
    "cut short": ('{"config": {"seed": 0', "config.json: not JSON"),
    "a list": ("[]", "config.json: wanted an object, not []"),
    "empty": ("", "config.json: not JSON"),
    "nothing": ("{}", "config.json: 'config' is missing"),
    "a list of config": ('{"config": []}', "config.json: 'config': wanted an object, not []"),
    "deep": (DEEP, "config.json: nested deeper than 64 levels"),
    "deep inside": ('{"config": ' + '{"a": ' * 500 + "1" + "}" * 501, "config.json: nested deeper than 64 levels"),
    "not UTF-8": (b'{"config": "\xff"}', "config.json: not UTF-8 at byte 12"),
    "digits": ('{"config": {"seed": 1' + "0" * 5000 + "}}", "config.json: not JSON (Exceeds the limit"),
}


@pytest.mark.parametrize("text, fault", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("verb", ["report", "evaluate", "predict", "sample", "export", "replay", "show", "train"])
def test_config(run, refused, verb, text, fault):
    spoil(run / "config.json", text)
    assert fault in refused(verb)


TYPES = {
    "text for int": (lambda c: c.update(num_steps="many"), "config key num_steps = 'many': wanted int"),
    "list for int": (lambda c: c["data"].update(batch_size=[8]), "config key data.batch_size = (8,): wanted int"),
    "null for int": (lambda c: c["data"].update(batch_size=None), "config key data.batch_size = None: wanted int"),
    "infinity for int": (lambda c: c.update(num_steps=float("inf")), "config key num_steps = inf: wanted int"),
    "bool for int": (lambda c: c.update(seed=True), "config key seed = True: wanted int"),
    "value for group": (lambda c: c.update(model=3), "config key model = 3: wanted a group"),
    "group for value": (lambda c: c["optim"].update(peak_lr={"a": 1}), "config key optim.peak_lr"),
    "list for text": (lambda c: c["data"].update(source=["files"]), "config key data.source"),
    "no key": (lambda c: c["data"].pop("length"), "there is no config key 'data.length'"),
    "no group": (lambda c: c.pop("data"), "data"),
    "name is a list": (lambda c: c.update(name=[]), "config key name = (): wanted str"),
    "name of no family": (lambda c: c.update(name="os/path"), "there is no family 'os'"),
    "name with dots": (lambda c: c.update(name="..tools.cli/x"), "there is no family '..tools.cli'"),
    "no name": (lambda c: c.pop("name"), "its config has no name"),
}


@pytest.mark.parametrize("change, fault", TYPES.values(), ids=TYPES)
def test_values_of_a_config(run, refused, change, fault):
    spoil(run / "config.json", edited(run / "config.json", lambda about: change(about["config"])))
    assert fault in refused("evaluate")


FILES = {
    "metrics cut inside": ("metrics.jsonl", '{"step": 1, "spl\n{"step": 1}\n', "metrics.jsonl, line 1: not JSON"),
    "metrics without values": ("metrics.jsonl", '{"step": 1, "split": "a"}\n', "line 1: 'values' is missing"),
    "metrics of lists": ("metrics.jsonl", "[]\n", "line 1: wanted an object, not []"),
    "metrics of text": (
        "metrics.jsonl",
        '{"step": 1, "split": "a", "values": {"b": "c"}}\n',
        "line 1: 'values': wanted",
    ),
    "metrics deep": ("metrics.jsonl", DEEP + "\n", "line 1: nested deeper"),
    "metrics not UTF-8": ("metrics.jsonl", b"\xff\n", "line 1: not UTF-8"),
    "metrics huge": (
        "metrics.jsonl",
        '{"step": 1' + 40 * "0" + ', "split": "a", "values": {}}\n',
        "line 1: 'step': wanted",
    ),
    "timing of text": (
        "timing.jsonl",
        '{"step": 1, "seconds": "long"}\n',
        "timing.jsonl, line 1: 'seconds': wanted a finite number",
    ),
    "timing without step": ("timing.jsonl", '{"seconds": 1}\n', "timing.jsonl, line 1: 'step' is missing"),
    "timing rates": ("timing.jsonl", '{"step": 1, "mfu": [1]}\n', "timing.jsonl, line 1: 'mfu': wanted a number"),
    "report a list": ("report.json", "[1]", "report.json: wanted an object, not [1]"),
    "report lines": ("report.json", '{"lines": "a"}', "report.json: 'lines': wanted a list"),
    "report baselines": ("report.json", '{"baselines": {"a": 1}}', "report.json: 'baselines': wanted an object"),
    "report final": ("report.json", '{"final": {"valid/loss": null}}', "report.json: 'final': wanted an object"),
    "report cut": ("report.json", '{"lines": [', "report.json: not JSON"),
    "report deep": ("report.json", DEEP, "report.json: nested deeper"),
    "about versions": ("config.json", '{"config": {}, "versions": [1]}', "config.json: 'versions': wanted an object"),
    "about commit": ("config.json", '{"config": {}, "commit": 3}', "config.json: 'commit': wanted a text or null"),
    "about parameters": (
        "config.json",
        '{"config": {}, "parameters": "x"}',
        "config.json: 'parameters': wanted a whole",
    ),
}


@pytest.mark.parametrize("name, text, fault", FILES.values(), ids=FILES)
def test_report(run, refused, name, text, fault):
    spoil(run / name, text)
    assert fault in refused("report")


@pytest.mark.parametrize("text", ['{"step": 2, "split": "a", "values": {"x": NaN, "y": 1e999, "z": -1e308}}\n'])
def test_numbers_without_end_are_drawn(run, text, capsys):
    with open(run / "metrics.jsonl", "a") as file:
        file.write(text.replace("2", "1", 1) + text)
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "<td>a/z</td>" in page and "\u22121e308" in page and "<td>a/x</td>" in page


@pytest.mark.parametrize("text, fault", BROKEN.values(), ids=BROKEN)
def test_doctor(run, capsys, text, fault):
    for name in ("config.json", "metrics.jsonl", "timing.jsonl", "not_finite.json"):
        spoil(run / name, text)
    was = everything(run)
    assert cli.main(["doctor", str(run)]) == 1
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert err == "" and everything(run) == was
    assert fault in words


def test_doctor_shows_control_characters(run, capsys):
    text = "\x1b[2Jred\u202e"
    spoil(run / "config.json", edited(run / "config.json", lambda about: about.update(name=text, commit=text)))
    spoil(run / "not_finite.json", json.dumps({"step": 1, "what": text}))
    cli.main(["doctor", str(run)])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and out.count(r"\x1b[2Jred\u202e") >= 3


@pytest.mark.parametrize(
    "text, fault", [(b"\x1b[2J\n", "not JSON"), (b"[]\n", "wanted an object"), (b"\xff\n", "not UTF-8")]
)
def test_a_resumed_run_says_which_lines_it_could_not_read(run, trained, capsys, text, fault):
    whole = (run / "metrics.jsonl").read_bytes()
    spoil(run / "metrics.jsonl", text + whole)
    assert cli.main(["train", TINY, *changes(trained.parent), f"--workdir={run}"]) == 0
    out = capsys.readouterr().out
    assert f"metrics.jsonl: 1 line could not be read, moved to metrics.jsonl.unreadable: line 1: {fault}" in out
    assert "\x1b" not in out
    assert (run / "metrics.jsonl").read_bytes() == whole and (run / "metrics.jsonl.unreadable").read_bytes() == text


# The terminal


def test_a_path_in_a_mistake_is_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "a\x1b[2J\nb")]) == 2
    err = capsys.readouterr().err
    assert r"a\x1b[2J\nb" in err.replace("\\\\", "\\") and "\x1b" not in err and err.count("\n") == 1
    assert cli.main(["a\x9bb"]) == 2
    assert "\x9b" not in capsys.readouterr().err


def test_what_a_model_writes_is_shown(run, monkeypatch, capsys):
    from experiments.language_model import train

    monkeypatch.setattr(train, "sample", lambda *args, **how: iter(["a\x1b[2J\n", "\tb\u202e"]))
    assert cli.main(["sample", str(run)]) == 0
    assert capsys.readouterr().out == "a\\x1b[2J\n\tb\\u202e\n"


def test_predictions_stay_json(run, tmp_path, capsys):
    file = tmp_path / "a\x9b\u202e.txt"
    file.write_text("the quick")
    assert cli.main(["predict", str(run), str(file)]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["file"] == str(file) and "\x9b" not in out and "\u202e" not in out


def test_notes_and_names_of_a_run_are_shown(tmp_path, capsys):
    records = RunLogger(tmp_path, 0, 1, True)
    records.say("a\x1b[2J\u202e")
    records.close()
    assert capsys.readouterr().out == "a\\x1b[2J\\u202e\n"


# Links


def test_a_checkpoint_with_a_link_is_damaged_and_not_copied(run, tmp_path, capsys):
    (tmp_path / "secret").write_text("the secret")
    (run / "checkpoints" / "2" / "more").symlink_to(tmp_path / "secret")
    assert cli.main(["checkpoint", "verify", str(run)]) == 1
    assert "more is a link" in capsys.readouterr().out
    assert cli.main(["checkpoint", "copy", str(run), str(tmp_path / "copy")]) == 2
    assert "more is a link" in capsys.readouterr().err and not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "metrics.jsonl"])
def test_a_copy_takes_no_file_from_outside(run, tmp_path, capsys, name):
    (tmp_path / "secret").write_text("the secret")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "secret")
    assert cli.main(["checkpoint", "copy", str(run), str(tmp_path / "copy")]) == 2
    assert f"{name}: a link that leads out" in capsys.readouterr().err and not (tmp_path / "copy").exists()


def test_a_copy_keeps_lines_that_cannot_be_read(run, tmp_path):
    whole = (run / "metrics.jsonl").read_bytes()
    spoil(run / "metrics.jsonl", b"nonsense\n" + whole)
    assert cli.main(["checkpoint", "copy", str(run), str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "metrics.jsonl").read_bytes() == whole
    assert (tmp_path / "copy" / "metrics.jsonl.unreadable").read_bytes() == b"nonsense\n"


@pytest.mark.parametrize("verb", ["evaluate", "report", "train", "show"])
def test_a_config_from_outside_is_refused(run, refused, tmp_path, verb):
    (run / "config.json").rename(tmp_path / "config.json")
    (run / "config.json").symlink_to(tmp_path / "config.json")
    if verb == "show":  # the file itself was named
        assert cli.main(["show", str(run / "config.json")]) == 0
    else:
        assert "config.json: a link that leads out of the run directory" in refused(verb)


@pytest.mark.parametrize("name", ["checkpoints", "best"])
@pytest.mark.parametrize("words", [["evaluate"], ["train"], ["checkpoint", "list"]], ids=" ".join)
def test_a_folder_of_checkpoints_that_is_a_link_is_refused(run, tmp_path, capsys, name, words):
    shutil.rmtree(run / "best")
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    before = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    where = [f"{run}/config.json", f"--workdir={run}"] if words == ["train"] else [str(run)]
    assert cli.main([*words, *where]) == 2
    assert f"{name}: a link that leads out of the run directory" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == before


def test_an_export_replaces_a_link(run, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "SHA256SUMS").write_text("mine")
    for name in ("bundle.part", "bundle"):
        (run / name).symlink_to(tmp_path / "victim")
    assert cli.main(["export", str(run)]) == 0
    assert [(path.name, path.read_text()) for path in (tmp_path / "victim").iterdir()] == [("SHA256SUMS", "mine")]
    assert not (run / "bundle").is_symlink() and not (run / "bundle.part").exists()


@pytest.mark.parametrize("words", [["sample"], ["explain", "--text=a"]], ids=["sample", "explain"])
def test_pictures_are_not_written_out_of_the_run(run, tmp_path, monkeypatch, capsys, words):
    (tmp_path / "other").mkdir()
    (run / "samples").rename(tmp_path / "samples")
    (run / "samples").symlink_to(tmp_path / "other")
    if words == ["explain", "--text=a"]:  # of a run that would be explained
        texts = Mock(data=Mock(spec=TextClassification))
        monkeypatch.setattr("research.run.reopen.load", lambda *_: (texts, None, 1))
        monkeypatch.setattr("tools.verbs.explain.explain", lambda *_: None)
    assert cli.main([words[0], str(run), *words[1:]]) == 2
    assert "samples: a link that leads out of the run directory" in capsys.readouterr().err
    assert not list((tmp_path / "other").iterdir())


def test_an_answerer_s_threshold_is_read_as_a_number(tmp_path):
    digest = hashlib.sha256(json.dumps({"step": 1}).encode()).hexdigest()[:12]
    (tmp_path / "ask").mkdir()
    path = tmp_path / "ask" / f"{digest}.json"
    for text, fault in (
        ("[]", "wanted an object"),
        ('{"temperature": 1}', "missing"),
        ('{"temperature": "a"}', "missing"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=f"{digest}.json: .*{fault}"):
            ask._calibration(tmp_path, {"step": 1}, None, None, None)
    path.write_text('{"temperature": 1.5, "threshold": 0.5}')
    assert ask._calibration(tmp_path, {"step": 1}, None, None, None) == {"temperature": 1.5, "threshold": 0.5}
