"""Translation: what a run ends with, and its translations."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.translation import average_checkpoints
from research.core import config
from research.run import checkpoint_files, reopen
from research.util.errors import UserError
from tools import cli

CHANGES = [f"--config.{c}" for c in ("num_steps=9", "eval_every=0", "data.buckets=1")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", "translation/tiny", f"--workdir={folder}", *CHANGES]) == 0
    return folder


def leaves(folder, step):
    one = checkpoint_files.choose(f"{folder}@{step}")
    return {k: x for k, x in one.arrays(one.leaves) if k.startswith("params/")}


def test_the_end_is_scored_once_on_the_mean_of_the_last_checkpoints(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows if row["split"] != "train"] == [
        (9, "valid"), (9, "final_valid"), (9, "test"),
    ]  # fmt: skip
    assert {"loss", "perplexity", "bleu", "exact"} <= rows[-3]["values"].keys()
    e, state, _ = reopen.load(trained, "last")
    mean, line = average_checkpoints.averaged(trained, state, 9, e.cfg)
    assert line == "final    mean of 2 checkpoints, of step 6, 9"
    six, nine = leaves(trained, 6), leaves(trained, 9)
    got = {f"params/{k}": v for k, v in _flat(mean.params).items()}
    assert got.keys() == six.keys()
    for name, x in got.items():
        np.testing.assert_allclose(x, (six[name].astype(np.float64) + nine[name]) / 2, rtol=1e-6, atol=1e-9)
    scores = e.evaluator.translate(mean, "test").scores
    assert rows[-1]["values"] == pytest.approx(scores)
    lines = (trained / "samples" / "step_00000009_test.hypotheses").read_text().split("\n")
    assert len(lines) == 501 and "tok:none" in (trained / "samples" / "step_00000009_test.txt").read_text()


def test_what_is_scored_at_the_end_is_scored_again_only_if_it_is_not_logged(trained, tmp_path):
    shutil.copytree(trained, run := tmp_path / "run")
    log = run / "metrics.jsonl"
    whole = log.read_text()
    command = ["train", "translation/tiny", f"--workdir={run}", *CHANGES]
    assert cli.main(command) == 0 and log.read_text() == whole
    log.write_text("".join(whole.splitlines(keepends=True)[:-1]))  # as if killed before its last line
    assert cli.main(command) == 0 and log.read_text() == whole


def _flat(params):
    from research.core.mesh import path_name

    return {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(params)}


def test_one_line_is_translated_as_in_its_part(trained):
    """The batch, its bucket's length and the room for the answer change nothing of what a line becomes."""
    e, state, _ = reopen.load(trained, "last")
    translated = e.evaluator.translate(state, "valid")
    alone = jax.jit(e.predictor.fn)(state.variables, e.data.codec.encode_lines(translated.sources[:3]))
    shortest = min(len(line.split()) for line in translated.hypotheses[:3])
    for row, line in zip(np.asarray(alone["tokens"]), translated.hypotheses[:3], strict=True):
        assert e.data.codec.text(row).split()[:shortest] == line.split()[:shortest]


def test_the_baseline_of_summaries(tmp_path):
    """By hand: of the first two words 2 of 2 and 2, and 1 of 2 and 4, are common; of four 2 of 4 and 2, and 1 of 4 and 4."""
    (tmp_path / "train.en").write_text("a b c d e\nf g h i\n")
    (tmp_path / "train.de").write_text("a b\nx y f z\n")
    for end in ("en", "de"):
        (tmp_path / f"valid.{end}").write_text((tmp_path / f"train.{end}").read_text())
    data = ("source=files", f"path={tmp_path}", "pair=en-de", "tokenizer=word", "length=8", "buckets=1", "tokens=64")
    cfg = config.load("translation/tiny", [*(f"data.{key}" for key in data), "scores=('rouge',)"])
    baselines = reopen.build("translation/tiny", cfg).data.baselines()
    assert list(baselines) == ["valid/loss", "valid/rouge1", "valid/rouge2", "valid/rougeL"]
    assert baselines["valid/rouge1"].values == {"the source's first 2 words": pytest.approx(100 * (1 + 1 / 3) / 2)}
    assert baselines["valid/rougeL"].values == {"the source's first 2 words": pytest.approx(100 * (1 + 1 / 3) / 2)}


def test_lines_of_a_file_and_of_a_prompt(trained, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("1 2\n\n3 4 5\n")
    capsys.readouterr()
    assert cli.main(["predict", str(trained), str(tmp_path / "lines.txt")]) == 0
    found = json.loads(capsys.readouterr().out)["lines"]
    assert len(found) == 3 and found[1] == "" != found[2]  # blank lines stay
    assert cli.main(["sample", str(trained), "--prompt", "3 4 5"]) == 0
    assert capsys.readouterr().out == f"{found[2]}\n"
    assert cli.main(["evaluate", str(trained), "--split", "test"]) == 0
    told = capsys.readouterr().out
    assert "500 examples of test" in told and "test/bleu" in told and "final    mean of" in told
    (tmp_path / "empty.txt").write_text("\n")
    for argv, words in {
        ("predict", str(trained), str(tmp_path / "empty.txt")): "no line to translate",
        ("predict", str(trained), str(tmp_path / "absent.txt")): "cannot read",
        ("sample", str(trained), "--temperature", "1"): "--temperature is not an option of translation/tiny",
    }.items():
        assert cli.main(list(argv)) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, told",
    [
        ("average.last=4", "average.last = 4: at least 1, and at most the keep = 3"),
        ("scores=('bleu','blue')", "scores: no metric 'blue'"),
        ("translate.penalty=gnnt", "unknown length penalty 'gnnt'"),
        ("translate.beam=0", "beam=0: want at least 1"),
        ("data.tokens=0", "tokens a batch = 0"),
        ("data.buckets=0", "data.buckets = 0"),
        ("model.shared=maybe", "model.shared"),
    ],
)
def test_mistakes_are_found_before_the_training(change, told):
    with pytest.raises(UserError) as caught:
        reopen.build("translation/tiny", config.load("translation/tiny", [change]))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_fewer_checkpoints_than_wanted(trained):
    """Where others came between, it is the mean of what is kept, and says so."""
    e, state, _ = reopen.load(trained, "last")
    cfg = SimpleNamespace(average=SimpleNamespace(last=3), save_every=6)
    line = average_checkpoints.averaged(trained, state, 9, cfg)[1]
    assert line == "final    mean of 2 checkpoints, of step 6, 9"


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both") / "run"
    changes = ("num_steps=6", "eval_every=0", "data.buckets=1", "data.both_ways=True", "model.copy=True")
    assert cli.main(["train", "translation/tiny", f"--workdir={folder}", *(f"--config.{c}" for c in changes)]) == 0
    return folder


def test_each_way_is_scored_alone(both_ways):
    rows = [json.loads(line) for line in (both_ways / "metrics.jsonl").read_text().splitlines()]
    found = {row["split"]: row["values"].keys() for row in rows if row["split"] != "train"}
    ways = ("digits_words", "words_digits")
    assert list(found) == [
        "valid",
        *(f"valid_{way}" for way in ways),
        *(f"{kind}_{way}" for kind in ("final_valid", "test") for way in ways),
    ]
    assert "bleu" not in found["valid"] and "loss" in found["valid"]
    assert {"loss", "bleu"} <= found["valid_words_digits"] and {"bleu", "exact"} == found["test_digits_words"]
    lines = (both_ways / "samples" / "step_00000006_test_words_digits.txt").read_text()
    assert "source     <2digits> " in lines


def test_a_line_names_the_language_wanted(both_ways, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("<2words> 1 2\n\n<2digits> ninety\n")
    (tmp_path / "french.txt").write_text("<2words> 1 2\n<2fr> ninety\n")
    capsys.readouterr()
    assert cli.main(["predict", str(both_ways), str(tmp_path / "lines.txt")]) == 0
    found = json.loads(capsys.readouterr().out)["lines"]
    assert len(found) == 3 and found[1] == ""
    assert cli.main(["sample", str(both_ways), "--prompt", "<2digits> ninety"]) == 0
    assert capsys.readouterr().out == f"{found[2]}\n"
    assert cli.main(["predict", str(both_ways), str(tmp_path / "french.txt")]) == 2
    assert (
        "the line '<2fr> ninety' begins with no language: put <2words> or <2digits> before it"
        in capsys.readouterr().err
    )
    assert cli.main(["export", str(both_ways), "--out", str(tmp_path / "exported")]) == 0


def test_restoring_and_then_fine_tuning(tmp_path, capsys):
    (tmp_path / "c.x").write_text("".join(f"a{i} b c d{i} e.\n" for i in range(40)))
    (tmp_path / "c.y").write_text("".join(f"b d{i}\n" for i in range(40)))
    data = (
        "source=files",
        f"path={tmp_path / 'c'}",
        "pair=x-y",
        "tokenizer=bpe",
        "vocab_size=280",
        "valid_fraction=0.2",
    )
    same = [
        *(f"--config.data.{one}" for one in data),
        "--config.num_steps=6",
        "--config.eval_every=0",
        "--config.model.copy=True",
    ]
    first = [
        "train",
        "translation/tiny",
        f"--workdir={tmp_path / 'first'}",
        *same,
        "--config.data.denoise=0.3",
        "--config.scores=()",
    ]
    assert cli.main(first) == 0
    rows = [json.loads(line) for line in (tmp_path / "first" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["split"] == "valid" and rows[-1]["values"].keys() == {"loss", "accuracy", "perplexity"}
    capsys.readouterr()
    tuned = ["train", "translation/tiny", f"--workdir={tmp_path / 'tuned'}", *same, f"--init-from={tmp_path / 'first'}"]
    assert cli.main(tuned) == 0
    assert "arrays from" in capsys.readouterr().out


def test_a_table_of_one_file_needs_no_pair(tmp_path):
    """Two steps: every key of the config is read, and the ways of both are named by a pair."""
    (tmp_path / "lines.tsv").write_text("".join(f"a{i}\tx{i} y\n" for i in range(300)))
    words = ["data.source=files", f"data.path={tmp_path / 'lines.tsv'}", "data.pair=None", "num_steps=2", "scores=()"]
    changes = [f"--config.{word}" for word in (*words, "optim.warmup=1")]
    assert cli.main(["train", "translation/tiny", f"--workdir={tmp_path / 'run'}", *changes]) == 0
    with pytest.raises(UserError, match="data.pair = None: two different names, of languages"):
        reopen.build("translation", config.load("translation/tiny", [*words, "data.both_ways=True"]))
