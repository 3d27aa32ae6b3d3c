"""Translation: what a run ends with, and its translations."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.translation import average_checkpoints
from research.core import config
from research.run import checkpoint_files, reopen
from research.util.errors import UserError
from tools import cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    changes = [f"--config.{c}" for c in ("num_steps=9", "eval_every=0", "data.buckets=1")]
    assert cli.main(["train", "translation/tiny", f"--workdir={folder}", *changes]) == 0
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
    assert average_checkpoints.missing(trained, 9, ["final_valid", "test"]) == []
    assert average_checkpoints.missing(trained, 12, ["test"]) == ["test"]


def _flat(params):
    from research.core.mesh import path_name

    return {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(params)}


def test_one_line_is_translated_as_in_its_part(trained):
    """The batch, its bucket's length and the room for the answer change nothing of what a line becomes."""
    e, state, _ = reopen.load(trained, "last")
    translated = e.evaluator.translate(state, "valid")
    alone = jax.jit(e.predictor.fn)(state.variables, e.data.encode_lines(translated.sources[:3]))
    shortest = min(len(line.split()) for line in translated.hypotheses[:3])
    for row, line in zip(np.asarray(alone["tokens"]), translated.hypotheses[:3], strict=True):
        assert e.data.text(row).split()[:shortest] == line.split()[:shortest]


def test_the_baseline_of_summaries(tmp_path):
    """Targets of two and of four words: three words of each source. By hand: 2 of 3 and 2, and 1 of 3 and 4, are common."""
    (tmp_path / "train.en").write_text("a b c d e\nf g h i\n")
    (tmp_path / "train.de").write_text("a b\nx y f z\n")
    for end in ("en", "de"):
        (tmp_path / f"valid.{end}").write_text((tmp_path / f"train.{end}").read_text())
    data = ("source=files", f"path={tmp_path}", "pair=en-de", "tokenizer=word", "length=8", "buckets=1", "tokens=64")
    cfg = config.load("translation/tiny", [*(f"data.{key}" for key in data), "scores=('rouge',)"])
    baselines = reopen.build("translation/tiny", cfg).data.baselines()
    assert list(baselines) == ["valid/loss", "valid/rougeL"]
    by_predictor = {"the source's first words": pytest.approx(100 * (4 / 5 + 2 / 7) / 2)}
    assert baselines["valid/rougeL"].values == by_predictor


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
