"""The documents are true: every command in a ```sh block is parsed, and run where that is cheap.

A document is followed as its reader would: in a copy of the checkout, block by block. A ```python block whose fence
names a file is that file's content; a ```py block is an excerpt of the file that its fence names (test_links.py).
`notes/`, `letters.txt`, `photos/` and `digits.npz` stand for the reader's own data.

Changed: `train` gets SMALL appended. Passed over: OUTSIDE, what downloads or leaves the folder. Only parsed: the verbs
of PARSED, and lines whose comment begins with `hours`, with `gpu` (without a GPU) or with `data` (without
ALMANAC_MIRROR).
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from research.core import config
from research.util.errors import UserError
from tools import cli
from tools.results import ledger

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*/README.md")]
)
SMALL = [f"--config.{key}" for key in ("num_steps=2", "optim.warmup=0", "log_every=1", "eval_every=0", "save_every=1")]
PARSED = ("benchmark", "lint", "reproduce", "serve", "test")  # minutes to hours, without end, or tests within a test
OUTSIDE = ("cd ", "git clone ")
FENCE = re.compile(r"^```(\S*)[ ]*(.*?)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`(?:\./)?almanac ([a-z]+)")

pytestmark = pytest.mark.docs
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.relative_to(ROOT).as_posix())


def commands(text: str) -> Iterator[tuple[list[str], str]]:
    """(words after `almanac`, comment) of every command in the ```sh blocks of a document."""
    for kind, _, body in FENCE.findall(text):
        for line in body.replace("\\\n", " ").splitlines() if kind == "sh" else []:
            line, _, comment = line.strip().partition("  #")
            if not line or line.startswith(("#", *OUTSIDE)):
                continue
            program, *words = shlex.split(line)
            assert program in ("almanac", "./almanac"), f"this test does not know the command {line!r}"
            yield words, comment.strip()


class Parsed(BaseException):
    """Ends a verb where its arguments have been parsed."""


def parse(words: list[str], monkeypatch) -> None:
    """UserError, usage error or assertion where a command's verb, arguments, config or keys do not exist."""
    parser = argparse.ArgumentParser.parse_known_args

    def stop(self, args=None, namespace=None):
        raise Parsed(self, *parser(self, args, namespace))

    verb, *arguments = words
    assert verb in cli.VERBS, f"there is no verb {verb}"
    with monkeypatch.context() as patch, pytest.raises(Parsed) as found:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        import_module(cli.module(verb)).main(arguments)
    _, args, rest = found.value.args
    if verb in ("train", "show"):
        changes = [word for word in arguments if word.startswith("--config.")]
        assert [word for word in rest if word not in changes] == []
        config.load(args.name, changes)
    elif verb == "reproduce":
        assert ledger.targets(args.name, config.plain(config.load(args.name))), f"{args.name} reproduces nothing"
    elif verb == "test":
        assert [word for word in rest if not (ROOT / word.partition("::")[0]).exists()] == []
    else:
        assert rest == [], f"{verb} does not know {rest}"


def runs(words: list[str], comment: str) -> bool:
    mark = re.match(r"hours|gpu|data|$", comment)
    here = {"gpu": jax.default_backend() == "gpu", "data": bool(os.environ.get("ALMANAC_MIRROR")), "hours": False}
    return words[0] not in PARSED and here.get(mark[0] if mark else "", True)


CHILD = """
import contextlib, io, json, os, socket, sys, traceback
from tools import cli

def refuse(*_, **__):
    raise ConnectionError("the tests may not use the network")

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a command's own processes say is no answer
socket.getaddrinfo, sys.stdout = refuse, sys.stderr
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = cli.main(json.loads(line))
        except SystemExit as e:
            status = e.code
        except BaseException:
            status = traceback.format_exc()
    print(json.dumps({"status": status, "said": said.getvalue()}), file=answers, flush=True)
"""


def follow(folder: Path, lines: list[list[str]]) -> list[dict]:
    """Runs the commands in order in a process that stands in `folder`, a checkout: their statuses and outputs."""
    env = {**os.environ, "PYTHONPATH": str(folder), "XLA_FLAGS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    asked = "".join(json.dumps(words) + "\n" for words in lines)
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD], cwd=folder, env=env, input=asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def checkout(folder: Path) -> None:
    """A copy of what a command needs of this checkout, and a reader's data beside it."""
    unwanted = shutil.ignore_patterns("__pycache__", "runs")
    for name in ("research", "experiments", "tools", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("README.md", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "notes").mkdir()
    for name in ("monday", "tuesday"):
        (folder / "notes" / f"{name}.txt").write_text(f"It is {name}, and the weather is fair.\n" * 200)
    (folder / "letters.txt").write_text("It is day, and the weather is fine.\n" * 20)
    rng = np.random.default_rng(0)
    for kind, low in (("cats", 0), ("dogs", 100)):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(100):
            pixels = rng.integers(low, low + 100, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / kind / f"{i}.png")
    images, labels = rng.integers(0, 255, (300, 12, 12), dtype=np.uint8), rng.integers(0, 3, 300)
    np.savez(folder / "digits.npz", images=images, labels=labels)


@every_document
def test_every_command_is_one(document, monkeypatch, capsys):
    """Its verb exists, its arguments parse, and the configs and keys that it names exist."""
    text = document.read_text("utf-8")
    written = {name.partition("configs/")[2] for _, name, _ in FENCE.findall(text)}
    for words, _ in commands(text):
        if any(f"{word.partition('/')[2]}.py" in written for word in words):
            continue  # a config that the document itself writes: below it is run
        try:
            parse(words, monkeypatch)
        except (UserError, SystemExit) as e:
            pytest.fail(f"almanac {shlex.join(words)}: {e} {capsys.readouterr().err}")


@every_document
def test_every_command_works(document, tmp_path):
    text = document.read_text("utf-8")
    wanted = [words for words, comment in commands(text) if runs(words, comment)]
    if not wanted:
        pytest.skip("nothing to run")
    checkout(tmp_path)
    for kind, name, body in FENCE.findall(text):
        if kind == "python" and name:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, "utf-8")
    lines = [words + SMALL if words[0] == "train" else words for words in wanted]
    failed = []
    for words, answer in zip(lines, follow(tmp_path, lines), strict=True):
        if answer["status"] not in ((0, 1) if words[0] == "doctor" else (0,)):  # it judges the machine: 1 is an answer
            failed.append(f"almanac {shlex.join(words)}: {answer['status']}\n{answer['said'][-2000:]}")
    assert not failed, "\n\n".join(failed)
    for kind, name, body in FENCE.findall(text):
        if kind == "python" and not name and document.name != "serving.md":  # which test_serving.py follows
            env = {**os.environ, "PYTHONPATH": str(tmp_path)}
            done = subprocess.run([sys.executable, "-c", body], cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{body}\n{done.stderr}"


@every_document
def test_every_verb_in_the_text_exists(document):
    for verb in SPAN.findall(document.read_text("utf-8")):
        assert verb in cli.VERBS, f"{document.relative_to(ROOT)} speaks of almanac {verb}"


def test_a_wrong_command_is_found(monkeypatch, capsys):
    text = "```sh\n./almanac train language_model/tiny --config.num_stepz=3\n```\n```\nalmanac nothing\n```\n"
    assert list(commands(text)) == [(["train", "language_model/tiny", "--config.num_stepz=3"], "")]
    with pytest.raises(UserError, match="num_stepz"):
        parse(["train", "language_model/tiny", "--config.num_stepz=3"], monkeypatch)
    with pytest.raises(UserError, match="language_model/tini"):
        parse(["show", "language_model/tini"], monkeypatch)
    with pytest.raises(AssertionError, match="temprature"):
        parse(["sample", "runs/x", "--temprature=1"], monkeypatch)
    with pytest.raises(AssertionError, match="no verb"):
        parse(["trian"], monkeypatch)
    with pytest.raises(AssertionError, match="nothing"):
        parse(["reproduce", "language_model/tiny"], monkeypatch)
