"""Parameters from elsewhere: what is loaded, resized, left fresh and left out, and what does not fit."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from research.core import config, mesh, state
from research.interop import huggingface, weights
from research.models.text import gpt
from research.run import reopen
from research.util.errors import UserError
from tools import cli

TEXT = "the quick brown fox jumps over the lazy dog\n" * 60
TINY = "language_model/tiny"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def words(text, *changes):
    base = ["data.source=files", f"data.path={text}", "num_steps=2", "optim.warmup=1", "save_every=1", *changes]
    return [f"--config.{change}" for change in base]


@pytest.fixture(scope="module")
def source(text, tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("source") / "run"
    assert cli.main(["train", TINY, f"--workdir={folder}", *words(text)]) == 0
    return folder


def fresh(text, *changes):
    """-> the experiment, and its state as `Run.start` makes it."""
    e = reopen.build("language_model", config.load(TINY, [w.removeprefix("--config.") for w in words(text, *changes)]))
    one = mesh.make_mesh({"data": 1}, jax.devices()[:1])
    return e, state.create(e.init_fn, e.tx, 0, one, (), bool(e.ema))


def loaded(text, source, *changes):
    lines = []
    e, before = fresh(text, f"pretrained.weights={source}", *changes)
    run = SimpleNamespace(note=lines.append, writes=False)
    return before, e.load_pretrained(before, run), lines


def test_a_run_begins_with_the_parameters_of_another(text, source):
    _, theirs, _ = reopen.load(source, "best")
    before, after, lines = loaded(text, source, "seed=7")
    pairs = list(zip(*map(jax.tree.leaves, (theirs.params, after.params)), strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert lines[0].startswith(f"init     {len(pairs)} arrays from {source} (best/")
    assert int(after.step) == 0 and jax.tree.all(jax.tree.map(np.array_equal, before.opt, after.opt))


def test_which_checkpoint_is_the_callers_choice(text, source):
    _, first, _ = reopen.load(source, "1")
    _, last, _ = reopen.load(source, "2")
    _, after, lines = loaded(text, f"{source}@1")
    table = "tokens", "embedding"
    ours, one, two = (np.asarray(s.params[table[0]][table[1]]) for s in (after, first, last))
    assert np.array_equal(ours, one) and not np.array_equal(ours, two)
    assert "checkpoints/1" in lines[0]


def test_averaged_parameters_are_taken_where_there_are_any(text, tmp_path):
    folder = tmp_path / "averaged"
    assert cli.main(["train", TINY, f"--workdir={folder}", *words(text, "optim.ema=0.5")]) == 0
    _, theirs, _ = reopen.load(folder, "best")
    _, after, _ = loaded(text, folder, "optim.ema=0.9")
    for tree in (after.params, after.ema):
        assert jax.tree.all(jax.tree.map(np.array_equal, theirs.ema, tree))


def test_rows_of_a_longer_table_are_resized_when_told(text, source):
    changes = ["data.length=24", "pretrained.resize=position"]
    before, after, lines = loaded(text, source, *changes)
    _, theirs, _ = reopen.load(source, "best")
    table = np.asarray(after.params["position"]["embedding"])
    assert np.array_equal(table[:16], theirs.params["position"]["embedding"])
    assert np.array_equal(table[16:], before.params["position"]["embedding"][16:])
    assert "resized  position/embedding 16 -> 24 rows" in lines


def test_what_is_named_fresh_keeps_its_initial_values_and_the_rest_is_listed(text, source):
    before, after, lines = loaded(text, source, "model.num_layers=1", "pretrained.fresh=final_norm")
    assert np.array_equal(after.params["final_norm"]["scale"], before.params["final_norm"]["scale"])
    assert "fresh    final_norm/scale" in lines
    left = next(line for line in lines if line.startswith("left out"))
    assert "h_1/attention/out/kernel" in left and "h_0" not in left


@pytest.mark.parametrize(
    "changes, message",
    [
        (["model.num_layers=3"], r"h_2/attention/out/kernel \[32, 32\] is not there \(and 5 more\)"),
        (["data.length=24"], r"position/embedding is \[16, 32\] there, \[24, 32\] here"),
        (["model.mlp_width=64", "pretrained.resize=feed_forward"], r"up/kernel is \[32, 128\] there, \[32, 64\] here"),
        (["pretrained.fresh=haed"], "pretrained.fresh = 'haed' matches no parameter"),
        (["pretrained.resize=haed"], "pretrained.resize = 'haed' matches no parameter"),
        (["pretrained.into=encoder"], "is not there"),
    ],
)
def test_what_does_not_fit_is_one_line(text, source, changes, message):
    with pytest.raises(UserError, match=message) as e:
        loaded(text, source, *changes)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        (["pretrained.fresh=head"], "pretrained.fresh = 'head' needs pretrained.weights"),
        (["pretrained.weights=runs", "pretrained.fresh=("], "pretrained.fresh = '\\(' is no regular expression"),
    ],
)
def test_settings_are_looked_at_before_anything_runs(text, changes, message):
    with pytest.raises(UserError, match=message):
        fresh(text, *changes)


def test_a_vocabulary_of_the_same_size_and_another_meaning_is_not_mixed_in(text, source, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().upper())
    assert (source / "vocabulary.json").exists()
    with pytest.raises(UserError, match=r"has another vocabulary \(its vocabulary.json\)"):
        loaded(other, source)
    before, after, _ = loaded(other, source, "pretrained.fresh=tokens")
    assert np.array_equal(after.params["tokens"]["embedding"], before.params["tokens"]["embedding"])
    assert not np.array_equal(after.params["position"]["embedding"], before.params["position"]["embedding"])
    _, theirs, _ = reopen.load(source, "best")
    _, after, _ = loaded(other, source, "pretrained.resize=tokens")
    assert np.array_equal(after.params["tokens"]["embedding"], theirs.params["tokens"]["embedding"])


def test_into_names_the_place(tmp_path):
    found = weights.placed({"params/tokens/embedding": np.zeros(1), "batch_stats/norm/mean": np.zeros(2)}, "encoder/")
    assert list(found) == ["params/encoder/tokens/embedding", "batch_stats/encoder/norm/mean"]


def test_a_damaged_source_is_not_used(text, source, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    checks = copy / "checkpoints/2/checksums/metadata"
    values = json.loads(checks.read_text())
    values["state"]["params/tokens/embedding"][0] ^= 1
    checks.write_text(json.dumps(values))
    with pytest.raises(UserError, match="is damaged in params/tokens/embedding"):
        loaded(text, f"{copy}@last")


# Hugging Face's folders, of GPTs with 32 columns, whose vocabulary is the text's 28 characters


SIZES = {"vocab_size": 28, "num_layers": 2, "num_heads": 2, "width": 32, "max_length": 16}


def folder(tmp_path, **changes):
    """A folder, and the parameters that are in it."""
    model = gpt.GPT(**SIZES | changes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1), np.int32))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: np.float32(rng.normal(size=a.shape)), shapes)
    huggingface.write(tmp_path / "folder", model, params)
    return tmp_path / "folder", params


def test_a_run_begins_with_weights_of_hugging_face(text, tmp_path):
    where, params = folder(tmp_path, bias=True)
    _, after, lines = loaded(text, where, "model.bias=True")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, after.params))
    assert lines == [f"init     28 arrays from {where} (gpt2)"]
    _, after, _ = loaded(text, where, "model.bias=True", "model.scan=True")
    assert jax.tree.all(jax.tree.map(np.array_equal, gpt.stack(params), after.params))


def test_a_runs_layers_are_stacked_for_a_scan(text, source):
    _, theirs, _ = reopen.load(source, "best")
    _, after, _ = loaded(text, source, "model.scan=True")
    assert jax.tree.all(jax.tree.map(np.array_equal, gpt.stack(theirs.params), after.params))


@pytest.mark.parametrize(
    "there, changes, message",
    [
        ({"num_heads": 4}, [], r"with num_heads = 4 \(n_head in its config.json\); model.num_heads here is 2"),
        (
            {"vocab_size": 30},
            [],
            r"is \[30, 32\] there \(transformer.wte.weight \[30, 32\]\), \[28, 32\] here",
        ),
        ({"num_layers": 1}, [], r"h_1/attention/out/bias \[32\] is not there \(and 11 more\)"),
        (
            {"num_layers": 3},
            ["model.scan=True"],
            r"bias is \[3, 32\] there \(transformer.h.0.attn.c_proj.bias \[32\]\), \[2, 32\]",
        ),
    ],
)
def test_weights_of_hugging_face_that_do_not_fit(text, tmp_path, there, changes, message):
    where, _ = folder(tmp_path, bias=True, **there)
    with pytest.raises(UserError, match=message) as e:
        loaded(text, where, "model.bias=True", *changes)
    assert "\n" not in str(e.value)


def test_rows_of_a_vocabulary_are_resized_when_told(text, tmp_path):
    where, params = folder(tmp_path, bias=True, vocab_size=30)
    _, after, lines = loaded(text, where, "model.bias=True", "pretrained.resize=tokens")
    assert np.array_equal(after.params["tokens"]["embedding"], params["tokens"]["embedding"][:28])
    assert "resized  tokens/embedding 30 -> 28 rows" in lines


def test_a_file_of_weights_is_no_folder(text, tmp_path):
    where, _ = folder(tmp_path)
    with pytest.raises(UserError, match="model.safetensors is a file; give the folder that it is in, or a run"):
        loaded(text, where / "model.safetensors")


def test_a_run_whose_heads_are_others_is_refused(text, source):
    """Its arrays have the same shapes."""
    with pytest.raises(UserError, match="is a run with model.num_heads = 2, and model.num_heads here is 4: set it so"):
        loaded(text, source, "model.num_heads=4")


def test_from_the_command_line(text, source, tmp_path, capsys):
    run = tmp_path / "run"
    assert cli.main(["train", TINY, f"--workdir={run}", f"--init-from={source}", *words(text)]) == 0
    assert f"arrays from {source}" in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["config"]["pretrained"]["weights"] == str(source)
    other = tmp_path / "other"
    assert cli.main(["train", TINY, f"--workdir={other}", "--init-from=nowhere", *words(text)]) == 2
    assert capsys.readouterr().err == "almanac: pretrained.weights = nowhere: no such run or folder\n"
    assert not list(other.glob("[!.]*"))
