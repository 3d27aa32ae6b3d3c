"""Texts translated there and back, and the command that writes them."""

import json

import pytest

from experiments.translation import back_translation
from research.run import reopen
from tools import cli

PAIRS = [
    ("ein Hund", "a dog"), ("eine Katze", "a cat"), ("der Hund schläft", "the dog sleeps"), ("die Katze", "the cat"),
    ("der Hund schläft und die Katze schläft und ein Hund", "the dog sleeps and the cat sleeps and a dog"),
]  # fmt: skip
TEXTS = ["a dog", "the dog sleeps", "a cat " * 40, "the cat"]


def train(folder, *changes, steps=60):
    for side, language in enumerate(("de", "en")):
        (folder / f"pairs.{language}").write_text("".join(f"{pair[side]}\n" for pair in PAIRS * 15), encoding="utf-8")
    keys = [
        f"data.path={folder / 'pairs'}", "data.source=files", "data.tokenizer=bpe", "data.vocab_size=300",
        f"num_steps={steps}", "optim.warmup=0", "eval_every=0", "scores=()", "data.length=24", *changes,
    ]  # fmt: skip
    words = ["train", "translation/tiny", f"--workdir={folder / 'run'}", *(f"--config.{key}" for key in keys)]
    assert cli.main(words) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return train(tmp_path_factory.mktemp("both"), "data.pair=en-de", "data.both_ways=True")


@pytest.fixture(scope="module")
def one_way(tmp_path_factory):
    return train(tmp_path_factory.mktemp("one"), "data.pair=en-de", steps=2)


@pytest.fixture(scope="module")
def reverse(tmp_path_factory):
    return train(tmp_path_factory.mktemp("reverse"), "data.pair=de-en", steps=2)


def made(out, back=None, **options):
    runs = [reopen.load(run)[:2] if run else None for run in (out, back)]
    return back_translation.paraphrases(*runs, TEXTS, **{"count": 2, "temperature": 1.0, "seed": 0, **options})


def test_what_is_drawn_follows_from_the_seed(both):
    first, again, other = made(both), made(both), made(both, seed=1)
    assert first == again and first.rows != other.rows
    assert first.too_long == 1 and first.rows[2] == [], "what the model cannot read whole is not cut"
    for text, others in zip(TEXTS, first.rows, strict=True):
        assert text not in others and "" not in others and len(set(others)) == len(others) <= 2


def test_the_way_back_is_the_most_probable_translation(both, monkeypatch):
    """Of what was drawn on the way out, by the greedy search that evaluation has."""
    e, state, _ = reopen.load(both)
    said = []
    call = back_translation._Translator.__call__

    def listen(self, texts, keys=None, temperature=1.0):
        out = call(self, texts, keys, temperature)
        said.append((texts, out))
        return out

    monkeypatch.setattr(back_translation._Translator, "__call__", listen)
    back_translation.paraphrases((e, state), None, TEXTS, count=1, temperature=1.0, seed=0)
    (_, foreign), (given, back) = said
    assert foreign == given
    inputs = e.data.codec.encode("\n".join(f"<2en> {line}" for line in foreign if line))
    search = e.evaluator._search(state.variables, inputs, width=1, length=e.data.max_length)
    greedy = e.data.codec.decode({"tokens": search["tokens"], "asked": inputs["source"][:, 0]})["lines"]
    assert [line for line in back if line] == [line for line in greedy if line]


def test_two_runs_one_way_each(one_way, reverse):
    assert made(one_way, reverse).too_long == 1


def test_the_command(both, tmp_path, capsys):
    table = tmp_path / "texts.csv"
    rows = [f"{text} {i},{i % 2}" for i, text in enumerate(["a dog", "the cat", "the dog sleeps"] * 10)]
    table.write_text("\n".join(["text,label", *rows]))
    changes = ["--config.data.source=files", f"--config.data.path={table}"]
    out = tmp_path / "new.jsonl"
    words = ["paraphrase", str(both), "text_classification/tiny", f"--out={out}", "--count=1", *changes]
    assert cli.main(words) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert 20 <= len(lines) <= 26 and f"of {len(lines)} texts" in capsys.readouterr().out
    run = ["train", "text_classification/tiny", f"--workdir={tmp_path / 'run'}", "--config.num_steps=3", *changes]
    more = ["data.augment=paraphrase", f"data.paraphrases={out}"]
    assert cli.main([*run, *(f"--config.{key}" for key in more)]) == 0
    assert "paraphrases of " in capsys.readouterr().out


def test_mistakes(both, one_way, tmp_path, capsys):
    name, out = "text_classification/tiny", f"--out={tmp_path / 'new.jsonl'}"
    for words, told in (
        ([one_way, name], "translates en-de alone: give --back"),
        ([one_way, name, f"--back={one_way}"], "--back is a run of en-de: want one of de-en"),
        ([both, name, "--count=0"], "--count=0: a whole number, at least 1"),
        ([both, name, "--temperature=0"], "--temperature=0.0: above 0"),
        ([both, "translation/tiny"], "translation/tiny has no texts to paraphrase"),
    ):
        assert cli.main(["paraphrase", *map(str, words), out]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
    assert not (tmp_path / "new.jsonl").exists()
